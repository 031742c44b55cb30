"""AWS SAM: builds the template for this machine and deploys it to the emulator."""

import os
import platform
from pathlib import Path

from local.ministack import CREDENTIALS, REGION
from local.process import LOCAL_DIRECTORY, clean_environment, program, run

# Names another folder to build in: processes of tests build at the same time.
FOLDER_VARIABLE = "LOCAL_SAM_DIRECTORY"


def folder() -> Path:
    """Return the folder of the build and its cache.

    Not .aws-sam/, whose content `sam deploy` sends to AWS: packages built for this machine must not
    get there.
    """
    return Path(os.environ.get(FOLDER_VARIABLE, LOCAL_DIRECTORY / "sam"))


def build_directory() -> Path:
    """Return the folder in which `build` leaves the functions."""
    return folder() / "build"


def built_template() -> Path:
    """Return the template that `build` leaves."""
    return build_directory() / "template.yaml"


def architecture() -> str:
    """Return this machine's architecture, as Lambda names it. Compiled packages need their own."""
    return "arm64" if platform.machine().lower() in {"arm64", "aarch64"} else "x86_64"


def tool_environment() -> dict[str, str]:
    """Return the environment for AWS's tools.

    No account of the developer, no telemetry, and the Python that has pip first on the path.
    """
    binaries = program("deployment", "sam").parent
    return (
        clean_environment()
        | CREDENTIALS
        | {
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "SAM_CLI_TELEMETRY": "0",
        }
    )


def build() -> None:
    """Build all functions. Unchanged ones come from the cache."""
    command = [
        program("deployment", "sam"),
        "build",
        "--cached",
        "--parallel",
        "--build-dir",
        build_directory(),
        "--cache-dir",
        folder() / "cache",
        "--parameter-overrides",
        f"Architecture={architecture()}",
    ]
    # pip downloads packages, so it needs this machine's settings: index, proxy, certificates.
    run("sam build", command, dict(os.environ) | tool_environment())


def deploy(endpoint: str, stack_name: str, template: Path, parameters: dict[str, str]) -> None:
    """Create or update the stack on the emulator at `endpoint`."""
    command = [
        program("deployment", "sam"),
        "deploy",
        "--template-file",
        template,
        "--stack-name",
        stack_name,
        "--resolve-s3",
        "--capabilities",
        "CAPABILITY_IAM",
        "--no-confirm-changeset",
        "--no-fail-on-empty-changeset",
        "--parameter-overrides",
        *[f"{name}={value}" for name, value in parameters.items()],
    ]
    # The default of five seconds is for AWS, which is slower and counts the calls.
    environment = tool_environment() | {"AWS_ENDPOINT_URL": endpoint, "SAM_CLI_POLL_DELAY": "0.2"}
    run("sam deploy", command, environment)
