"""The network of fit.py in a script that logs to MLflow by itself, and knows nothing of sweep either.

python examples/plain/fit_mlflow.py              # a run in MLflow's own default store
sweep run search_spaces/mlflow_own.yaml          # a run of each trial's, found by MLFLOW_RUN_ID
"""

import mlflow
from fit import fit, parser

args = parser().parse_args()
with mlflow.start_run():
    mlflow.log_params(vars(args))
    for epoch, metrics in fit(args):
        mlflow.log_metrics(metrics, step=epoch)
