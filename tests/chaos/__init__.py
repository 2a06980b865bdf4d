"""The chaos suite: seeded faults over daemon, Postgres, SMSC and network, and a judge that looks at the logs alone.

    schedule.py   seed -> shape and faults of a run; pure
    world.py      a private Postgres, an SMSC process, one or two daemons, the ways between them; carries the faults out
    proxy.py      those ways: cut, slow, half-open; the SMPP ones note each PDU and when it was handed on
    carrier.py    the SMSC process: stores and forwards receipts, is moody when told to
    client.py     the app: enqueues and cancels, and logs what it saw committed
    evidence.py   the logs as values
    judge.py      evidence -> findings; pure; test_judge.py shows that each rule can fail
    run.py        one seed from schedule to verdict

``make chaos`` or ``python -m tests.chaos --seeds 1-200 --parallel 2`` runs the long form, 20 to 25 s a seed on an idle
machine; ``--judge FOLDER`` judges again what a run left. The same seed gives the same schedule and the same texts, not
the same interleaving: run a seed that failed several times, and under load.
"""
