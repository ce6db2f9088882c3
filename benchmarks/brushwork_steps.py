"""Train with brushwork as ``brushwork train`` does, without what comes after training (measuring and the report).

python benchmarks/brushwork_steps.py run-folder '{"base": "...", "data": {...}, "train": {...}}'
"""

from __future__ import annotations

import json
import sys

from brushwork import api


def main() -> None:
    """Train as the arguments say: a run folder and a configuration in JSON."""
    out, tree = sys.argv[1:]
    api.train(json.loads(tree), out=out, evaluate=False)


if __name__ == "__main__":
    main()
