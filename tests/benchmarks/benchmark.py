"""How fast surgery is, beside what it can be compared with: tables in Markdown.

    python tests/benchmarks/benchmark.py                      all of them, which takes an hour
    python tests/benchmarks/benchmark.py cut_and_copy pipes   some of them
    python tests/benchmarks/benchmark.py growth --turns 3 --only "InsertLayer*"

Subjects that are compared take turns within one run. A table has the median and the range of the turns, and the median
and the range of the ratios of the turns: what slows a machine down for a while slows down both.

- `pure_part`: analysis, scores, plan and cut, beside Torch-Pruning where `torch` and `torch-pruning` are installed;
- `end_to_end`: from a model to a smaller model, beside `clone_model` and `set_weights`;
- `cut_and_copy`: the cut beside `np.copy` of what is kept, and the memory that it takes;
- `growth`: every edit on models of 10 to 10,000 layers, and of 16 to 16,384 channels;
- `pipes`: many edits in sequence;
- `data_passes`: statistics of data, beside `predict` and the gradients of an epoch;
- `deployment`: latency and file size of pruned models in Keras and LiteRT.
"""

import argparse
import os
import sys
from importlib import import_module
from pathlib import Path

NAMES = ("pure_part", "end_to_end", "cut_and_copy", "growth", "pipes", "data_passes", "deployment")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME", help=f"one of {', '.join(NAMES)}")
    parser.add_argument("--turns", type=int, default=5, help="the number of turns that count")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: processor time of this process")
    parser.add_argument("--only", nargs="*", default=(), help="patterns of subjects of growth, or of networks")
    parser.add_argument("--plot", default="", metavar="FILE", help="where deployment draws its latencies")
    options = parser.parse_args()
    # One thread each in what Torch-Pruning is compared with; Keras is quiet and stays on the processor.
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} if "pure_part" in options.names else {}
    os.environ.update({"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", **one_thread})
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the helpers of the tests
    from timing import Settings

    for name in options.names:
        for table in import_module(name).main(
            Settings(options.turns, options.clock, tuple(options.only), options.plot)
        ):
            sys.stdout.write(f"\n{table}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
