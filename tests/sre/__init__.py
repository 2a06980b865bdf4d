"""What SREs load and read: alert rules, dashboards and the runbook, held to each other and to a running daemon."""
