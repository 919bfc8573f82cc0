#!/bin/bash
# Eight processes on up to eight machines fill one feature store. `--requeue`: a task that is preempted comes
# back and takes up free shards; those it had begun are made by the others meanwhile.
#   extraction=$(sbatch --parsable examples/slurm/extract.sh mine.yaml)
#   sbatch --dependency=afterok:$extraction examples/slurm/train.sh mine.yaml
#SBATCH --job-name=meddistill-extract
#SBATCH --array=0-7
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=12:00:00
#SBATCH --requeue
set -euo pipefail

srun meddistill extract "$1" --quiet --set features.workers="${SLURM_CPUS_PER_TASK:-8}"
