#!/bin/sh
# A trial is any program: here a shell script. It fits a curve to noisy points by gradient descent with momentum, in
# awk, and knows nothing of sweep.
#
#     sh examples/shell/train.sh --lr 0.3 --momentum 0.5        step 20 error 0.0123
#     sweep run search_spaces/shell.yaml
set -eu

lr=0.1 momentum=0 steps=40
while [ $# -gt 0 ]; do
    case $1 in
        --lr) lr=$2 ;;
        --momentum) momentum=$2 ;;
        --steps) steps=$2 ;;
        *) echo "unknown option: $1" >&2; exit 2 ;;
    esac
    shift 2
done

exec awk -v lr="$lr" -v momentum="$momentum" -v steps="$steps" '
BEGIN {
    srand(7)
    for (i = 0; i < 60; i++) {
        x[i] = i / 30 - 1
        y[i] = 2 * x[i] * x[i] - x[i] + 0.3 + (rand() - 0.5) / 5
    }
    for (step = 1; step <= steps; step++) {
        ga = gb = gc = error = 0
        for (i in x) {
            off = a * x[i] * x[i] + b * x[i] + c - y[i]
            ga += off * x[i] * x[i] / 30; gb += off * x[i] / 30; gc += off / 30
            error += off * off / 60
        }
        printf "step %d error %.6f\n", step, error
        fflush()
        va = momentum * va - lr * ga; vb = momentum * vb - lr * gb; vc = momentum * vc - lr * gc
        a += va; b += vb; c += vc
    }
}'
