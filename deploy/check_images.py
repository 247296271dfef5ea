"""Carry out the Dockerfiles without a container engine, and use what they made. As root, on Linux:

    python deploy/check_images.py serve
    python deploy/check_images.py evaluate

An overlay over this system takes the place of the base image: COPY and RUN happen in it, word for word, so its Python
has to be one that the package supports. Then the overlay becomes read-only, but for /tmp and what is mounted, and the
entry point runs in it as the user of the Dockerfile, without capabilities and without a network but its own loopback:
`serve` has to pass its health check, recognize a digit and end with 0 at SIGTERM; `evaluate` runs the quickstart.
Nothing of it stays.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parent
BASE_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
SERVE = """
{entry} & server=$!
for second in $(seq 60); do {health} 2>/dev/null && break; sleep 1; done
{health}
curl --silent --fail --data-binary @{digit} 'http://127.0.0.1:8080/v1/predict?topk=1' | tee {answer}; echo
kill -TERM $server
wait $server
"""


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile with their arguments."""
    text = re.sub(r"\\\n", " ", dockerfile.read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(name, " ".join(rest.split())) for name, _, rest in (line.partition(" ") for line in lines)]


def build(steps: list[tuple[str, str]], root: str) -> str:
    """Return the shell commands of the instructions of all stages, in one folder `root`."""
    folder, variables = "/", {"PATH": BASE_PATH, "HOME": "/nonexistent"}
    variables |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}  # which index
    lines = []
    for name, rest in steps:
        match name:
            case "FROM":
                folder, variables["PATH"] = "/", BASE_PATH
            case "WORKDIR":
                folder = rest
                lines.append(f"mkdir -p {root}{folder}")
            case "COPY" if rest.startswith("--from="):
                source, target = rest.split()[1:]
                assert source == target, "stages share one folder here"
                lines.append(f"test -e {root}{source}")
            case "COPY":
                *sources, target = rest.split()
                target = f"{root}{folder}/{target}"
                lines += [f"cp -r {REPOSITORY / source} {target}" for source in sources]
            case "ENV":
                variables |= dict(pair.split("=", 1) for pair in shlex.split(rest))
            case "RUN":
                environment = " ".join(shlex.quote(f"{key}={value}") for key, value in variables.items())
                command = shlex.quote(f"cd {folder} && {rest}")
                lines += [f"echo {shlex.quote('RUN ' + rest)}", f"chroot {root} env -i {environment} sh -c {command}"]
    return "\n".join(lines)


def as_user(steps: list[tuple[str, str]], root: str, words: list[str]) -> str:
    """Return the shell command that runs `words` as the image would."""
    last = dict(steps)  # of each instruction the last, but for ENV
    variables = [pair for name, rest in steps if name == "ENV" for pair in shlex.split(rest)]
    user, group = last["USER"].split(":")
    drop = ["setpriv", "--reuid", user, "--regid", group, "--clear-groups", "--no-new-privs", "--bounding-set=-all"]
    folder = last["WORKDIR"] if steps[-1][0] == "CMD" else "/"
    enter = ["env", "-i", *variables, "sh", "-c", f'cd {folder} && exec "$@"', "sh"]
    return shlex.join(["chroot", root, *drop, *enter, *words])


def use(which: str, steps: list[tuple[str, str]], root: str, work: Path) -> str:
    """Return the shell commands that use the image, and fail where it does not work."""
    last = dict(steps)
    entry = json.loads(last["ENTRYPOINT"])
    lines = ["ip link set lo up", f"mount -t tmpfs tmpfs {root}/tmp"]
    if which == "serve":
        lines += [f"mkdir {root}/model", f"mount --bind {work}/model {root}/model"]
        health = json.loads(last["HEALTHCHECK"].partition("CMD ")[2])
        run = SERVE.format(
            entry=as_user(steps, root, entry),
            health=as_user(steps, root, health),
            digit=work / "digits" / "imgs" / "digit_1198.png",
            answer=work / "answer.json",
        )
    else:
        lines += [f"mkdir -p {root}/work/runs", f"mount -t tmpfs -o mode=1777 tmpfs {root}/work/runs"]
        run = (
            f"{as_user(steps, root, entry + json.loads(last['CMD']))}\ntest -s {root}/work/runs/quickstart/report.html"
        )
    lines += [
        f"mount -o remount,ro {root}",
        f"! touch {root}/opt/mobilenext/file 2>/dev/null",
        f"! ls {root}/opt/mobilenext/bin | grep -E '^(pip|wheel|gcc|cc)'",
        f"du -sh {root}/opt/mobilenext",
    ]
    return "\n".join(lines) + "\n" + run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", choices=("serve", "evaluate"))
    parser.add_argument("--python", default="/usr/bin/python3", help="Python of the image (default: /usr/bin/python3)")
    options = parser.parse_args()
    steps = instructions(HERE / f"Dockerfile.{options.image}")
    work = Path(tempfile.mkdtemp(prefix="image-", dir="/var/tmp"))
    work.chmod(0o755)
    try:
        for name in ("upper", "overlay", "root"):
            (work / name).mkdir()
        if options.image == "serve":
            command = [sys.executable, "-m", "mobilenext", "export", "--model", "mobilenext_x0_35.digits"]
            subprocess.run([*command, "-o", str(work / "model")], check=True)
            subprocess.run([sys.executable, "-c", f"from pathlib import Path; from mobilenext.data.digits import "
                            f"write_digits; write_digits(Path('{work}/digits'))"], check=True)  # fmt: skip
        root = str(work / "root")
        pip = f'#!/bin/sh\nexec {sys.executable} -m pip "$@"\n'
        script = "\n".join([
            "set -euxo pipefail" if os.environ.get("TRACE") else "set -euo pipefail",
            "mount --make-rprivate /",
            f"mount -t overlay overlay -o lowerdir=/,upperdir={work}/upper,workdir={work}/overlay {root}",
            *(f"mount --rbind /{name} {root}/{name}" for name in ("proc", "dev")),
            f"ln -sf {options.python} {root}/usr/local/bin/python",
            f"printf %s {shlex.quote(pip)} > {root}/usr/local/bin/pip; chmod 755 {root}/usr/local/bin/pip",
            build(steps, root),
            f"unshare --net bash -euc {shlex.quote(use(options.image, steps, root, work))}",
        ])  # fmt: skip
        subprocess.run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", script], check=True)
        if options.image == "serve":
            answer = json.loads((work / "answer.json").read_text())
            label = (work / "digits" / "val_list.txt").read_text().split()[1]
            assert answer["classes"][0]["label"] == label, answer
    finally:
        shutil.rmtree(work)
    print(f"{options.image}: as it should be")


if __name__ == "__main__":
    main()
