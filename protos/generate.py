"""Generate the Python code of the protos, with the oldest toolchain that is supported.

Older generated code runs on newer runtimes, never the reverse. What comes out is committed, byte
for byte the same wherever it is made:

python protos/generate.py             writes control/ninelives_control/v1
python protos/generate.py --check     exits with 1 if that would change anything
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

TOOLS = ("grpcio-tools==1.71.2", "mypy-protobuf==3.7.0", "protobuf==5.29.6", "setuptools<81")
ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
TARGET = ROOT / "control"
PACKAGE = Path("ninelives_control") / "v1"


def main() -> int:
    """Generate, and write or compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare only, and exit with 1")
    parser.add_argument(
        "--venv", type=Path, help="virtual environment for the tools, made if it is missing"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environment = options.venv or Path(folder) / "venv"
        made = Path(folder) / "made"
        made.mkdir()
        _run_protoc(_tools(environment), made)
        return _compare(made) if options.check else _write(made)


def _tools(environment: Path) -> Path:
    """Return the folder of the environment's programs, with the tools installed."""
    if not environment.exists():
        venv.create(environment, with_pip=True)
    programs = environment / ("Scripts" if sys.platform == "win32" else "bin")
    install = [programs / "python", "-m", "pip", "install", "--quiet", *TOOLS]
    subprocess.run(install, check=True)  # noqa: S603 - names and versions are pinned above
    return programs


def _run_protoc(programs: Path, made: Path) -> None:
    protos = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    command = [
        programs / "python",
        "-m",
        "grpc_tools.protoc",
        f"--proto_path={PROTOS}",
        f"--plugin=protoc-gen-mypy={programs / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={programs / 'protoc-gen-mypy_grpc'}",
        *(f"--{kind}_out={made}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")),
        *protos,
    ]
    subprocess.run(command, check=True)  # noqa: S603 - our own files
    (made / PACKAGE / "__init__.py").write_text(
        '"""Generated from `protos/`; see `protos/generate.py`."""\n', encoding="utf-8"
    )


def _write(made: Path) -> int:
    (TARGET / PACKAGE).mkdir(parents=True, exist_ok=True)
    for path in _names(TARGET) - _names(made):
        (TARGET / path).unlink()
    for path in sorted(_names(made)):
        (TARGET / path).write_bytes((made / path).read_bytes())
        print(f"wrote {(TARGET / path).relative_to(ROOT)}")
    return 0


def _compare(made: Path) -> int:
    there, wanted = _names(TARGET), _names(made)
    wrong = [f"{path} is missing" for path in wanted - there]
    wrong += [f"{path} is left over" for path in there - wanted]
    wrong += [
        f"{path} differs"
        for path in there & wanted
        if (TARGET / path).read_bytes() != (made / path).read_bytes()
    ]
    for line in sorted(wrong):
        print(line, file=sys.stderr)
    print("run python protos/generate.py" if wrong else "the generated code is up to date")
    return 1 if wrong else 0


def _names(folder: Path) -> set[Path]:
    files = (path for path in (folder / PACKAGE).glob("*.py*") if path.is_file())
    return {path.relative_to(folder) for path in files}


if __name__ == "__main__":
    sys.exit(main())
