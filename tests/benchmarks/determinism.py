"""One archive, however it is made: `determinism.py [--evaluations N] [--seed S] [--without-ray]`.

The built-in proposer and the transcript of an LLM run (a model on loopback), 1, 2 and 4 workers, local and
Ray, straight and with three SIGKILLs, each followed by `kvolve resume`. Prints the content hashes.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.llm.policies import policies
from tests.llm.server import Server

KVOLVE = str(Path(sys.executable).parent / "kvolve")
KILLS = 3


def start(*arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([KVOLVE, *map(str, arguments)], stdout=subprocess.DEVNULL)


def finish(*arguments: object) -> None:
    if start(*arguments).wait():
        raise SystemExit(f"kvolve {' '.join(map(str, arguments))} failed")


def found(run: Path) -> dict[str, object]:
    """Evaluations and hash of a run; 0 evaluations while it has no archive."""
    done = subprocess.run([KVOLVE, "inspect", str(run), "--json"], capture_output=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else {"evaluations": 0}


def killed(run: Path, arguments: tuple[object, ...], evaluations: int, moments: random.Random) -> None:
    """Makes a run that is killed three times while it works, and resumed."""
    for kill in range(KILLS):
        exists = (run / "archive.db").exists()
        process = start("resume", run) if exists else start(*arguments)
        wanted = (kill + moments.random()) * evaluations / (KILLS + 1)
        while process.poll() is None and int(str(found(run)["evaluations"])) <= wanted:
            time.sleep(moments.uniform(0, 0.5))
        process.kill()
        process.wait()
    finish("resume", run)


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes one archive in many ways.")
    parser.add_argument("--evaluations", type=int, default=60, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--without-ray", action="store_true")
    given = parser.parse_args()
    moments = random.Random(given.seed)
    pools = ("local",) if given.without_ray else ("local", "ray")
    usual = ("run", "token_selection", "--recording", "small", "--max-evaluations", given.evaluations)
    with TemporaryDirectory() as name:
        folder = Path(name)
        with Server() as server:
            server.usual = policies
            os.environ |= {"KVOLVE_LLM_BASE_URL": server.url, "KVOLVE_LLM_MODEL": "loopback"}
            finish(*usual, "--proposer", "llm", "--run-dir", folder / "recorded")
        hashes = {"llm, recorded": found(folder / "recorded")["hash"]}
        print(f"{'llm, recorded':44}{hashes['llm, recorded']}", flush=True)
        proposers = {"builtin": (), "replay": ("--proposer", f"replay:{folder / 'recorded'}")}
        for (proposer, flags), pool, workers, kills in product(
            proposers.items(), pools, (1, 2, 4), (0, KILLS)
        ):
            way = f"{proposer}, {pool}, {workers} workers, {kills} kills"
            run = folder / way.replace(", ", "-").replace(" ", "-")
            arguments = (*usual, *flags, "--pool", pool, "--workers", workers, "--run-dir", run)
            if kills:
                killed(run, arguments, given.evaluations, moments)
            else:
                finish(*arguments)
            hashes[way] = found(run)["hash"]
            print(f"{way:44}{hashes[way]}", flush=True)
    builtin = {hash for way, hash in hashes.items() if way.startswith("builtin")}
    replayed = {hash for way, hash in hashes.items() if not way.startswith("builtin")}
    print(f"different hashes: built-in proposer {len(builtin)}, LLM and its replays {len(replayed)}")


if __name__ == "__main__":
    main()
