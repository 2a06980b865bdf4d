"""Jobs and Postgres: the queue, the journey of a job, what survives a restart. Knows no PDU field."""
