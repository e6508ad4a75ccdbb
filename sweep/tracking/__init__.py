"""The follower: a process of its own that brings MLflow up to date with the journal.

    tail.py      whole lines of journal.jsonl, as events
    mirror.py    events -> what each MLflow run should say (through the state machine; no I/O)
    store.py     the only importer of mlflow;  trouble.py  sorts its errors: Trouble (later), Refused (never)
    sender.py    run ids, and what was not sent yet -> store, exactly once
    memory.py    mlflow.json: how far, which runs, what is owed
    harvest.py   metrics that a trial logs to MLflow by itself -> reports.jsonl
    files.py     output logs, usage, checkpoints -> artifacts and system metrics
    finale.py    the end: best trial, its checkpoint, the registered model
    link.py      the controller's end of the line
    follower.py  the loop;  reader.py  what there is to send;  retry.py  when to try again, and what is news
    template.py  a migrated SQLite file, copied instead of migrated anew
    limits.py    names and values as MLflow takes them
    uri.py       which store;  ui.py  the command of `sweep ui`;  process.py  the controller's side
    lag.py       how far MLflow is behind, for whoever asks

How nothing is sent twice although anybody may die: everything but creating a run is idempotent in MLflow (a metric
is known by key, step, time and value; a parameter, tag or status is set again to the same). So the cursor in
`mlflow.json` moves only behind what the store has taken, and a run is created only after the runs of this sweep
were looked up by the tag `sweep.uid`.
"""
