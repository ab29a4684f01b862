"""Promises of the program itself: a real process, real sockets, real signals."""

import resource
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from backit.v1 import accounts_pb2, appliance_pb2
from backit.v1 import chunks_pb2 as chunks
from tests.backitd import daemons
from tests.backitd.clients import Client, code
from tests.backitd.daemons import WAIT, Program, program
from tests.backitd.people import Person


@pytest.fixture
def folder() -> Iterator[Path]:
    with daemons.short_folder() as short:
        yield short


def arguments(folder: Path, *more: str) -> list[str]:
    return ["--state", f"{folder}/state", "--listen", f"unix:{folder}/s", *more]


def authority(folder: Path) -> bytes:
    with Client(f"unix:{folder}/s") as client:
        answer = client.appliance.GetAppliance(appliance_pb2.GetApplianceRequest())
    return answer.ca_certificate.encode()


def tls_client(folder: Path, running: Program) -> Client:
    port = running.wait_for(r"listening on tcp:127.0.0.1:(\d+)")[1]
    return Client(f"127.0.0.1:{port}", authority(folder))


def back_up(client: Client, device: Client, person: Person) -> bytes:
    """Signs up, enrols, stores one snapshot; the id of its data chunk."""
    client.sign_up(person)
    client.log_in(person)
    machine = person.machine()
    client.put(machine.statements())
    device.log_in_machine(machine)
    run = machine.run()
    lease = device.lease(run).name
    data, data_record = run.data(b"content" * 100)
    root, root_record = run.node(b"tree", [data])
    device.upload_records(lease, [data_record, root_record])
    device.commit(lease, *run.snapshot(root))
    request = chunks.DownloadRequest(domain_id=machine.domain.raw, chunk_ids=[data.raw])
    (answer,) = client.chunks.Download(request, metadata=client.metadata)
    assert answer.record == data_record
    return data.raw


def test_a_whole_backup_over_the_unix_socket_and_over_tls(folder: Path) -> None:
    tcp = ("--listen", "tcp:127.0.0.1:0", "--listen", "tcp:[::1]:0", "--open-signup")
    with program(*arguments(folder, *tcp)) as running:
        running.wait_for("ready")
        local = f"unix:{folder}/s"
        with Client(local) as client, Client(local) as device:
            back_up(client, device, Person("alice"))
        with tls_client(folder, running) as client, tls_client(folder, running) as device:
            back_up(client, device, Person("bob"))
        assert running.stop() == 0
    assert not (folder / "s").exists()
    assert not (folder / "state/admin.sock").exists()


def test_tls_1_3_and_nothing_below_it(folder: Path) -> None:
    with program(*arguments(folder, "--listen", "tcp:127.0.0.1:0")) as running:
        port = int(running.wait_for(r"listening on tcp:127.0.0.1:(\d+)")[1])
        running.wait_for("ready")

        def handshake(version: ssl.TLSVersion) -> str | None:
            context = ssl.create_default_context(cadata=authority(folder).decode())
            context.minimum_version = context.maximum_version = version
            context.set_alpn_protocols(["h2"])
            with (
                socket.create_connection(("127.0.0.1", port)) as plain,
                context.wrap_socket(plain, server_hostname="backit-appliance") as secure,
            ):
                return secure.version()

        assert handshake(ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            handshake(ssl.TLSVersion.TLSv1_2)


def test_a_client_that_pinned_another_authority_gets_no_connection(folder: Path) -> None:
    other = folder / "other"
    other.mkdir()
    tcp = ("--listen", "tcp:127.0.0.1:0")
    with program(*arguments(folder, *tcp)) as one, program(*arguments(other)) as two:
        one.wait_for("ready")
        two.wait_for("ready")
        port = one.wait_for(r"listening on tcp:127.0.0.1:(\d+)")[1]
        with Client(f"127.0.0.1:{port}", authority(other)) as client:
            with pytest.raises(grpc.RpcError) as caught:
                client.appliance.GetAppliance(appliance_pb2.GetApplianceRequest(), timeout=WAIT)
            assert code(caught.value) is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly_when_told_to(folder: Path, number: int) -> None:
    with program(*arguments(folder)) as running:
        running.wait_for("ready")
        assert running.stop(number) == 0
        assert "stopped" in running.log
        assert "Traceback" not in running.log


def test_what_was_stored_is_there_after_a_kill(folder: Path) -> None:
    with program(*arguments(folder, "--open-signup")) as running:
        running.wait_for("ready")
        target = f"unix:{folder}/s"
        person = Person("alice")
        with Client(target) as client, Client(target) as device:
            back_up(client, device, person)
        running.kill()
    assert (folder / "s").exists()  # nobody was there to remove it
    with program(*arguments(folder)) as running:
        running.wait_for("ready")
        with Client(f"unix:{folder}/s") as client:
            client.log_in(person)
            status = client.appliance.GetStatus(
                appliance_pb2.GetStatusRequest(), metadata=client.metadata
            )
            assert (status.snapshots, status.chunks) == (1, 2)
        assert running.stop() == 0


def test_rebuild_makes_the_databases_again(folder: Path) -> None:
    person = Person("alice")
    with program(*arguments(folder, "--open-signup")) as running:
        running.wait_for("ready")
        with Client(f"unix:{folder}/s") as client, Client(f"unix:{folder}/s") as device:
            back_up(client, device, person)
        rebuild = [sys.executable, "-m", "backitd", "rebuild", "--state", f"{folder}/state"]
        refused = subprocess.run(rebuild, capture_output=True, text=True, check=False, timeout=WAIT)
        assert refused.returncode == 1
        assert "another process has it open" in refused.stderr
        assert running.stop() == 0
    (folder / "state/index.db").unlink()
    done = subprocess.run(rebuild, capture_output=True, text=True, check=False, timeout=WAIT)
    assert done.returncode == 0, done.stderr
    with program(*arguments(folder)) as running:
        running.wait_for("ready")
        with Client(f"unix:{folder}/s") as client:
            client.log_in(person)
            status = client.appliance.GetStatus(
                appliance_pb2.GetStatusRequest(), metadata=client.metadata
            )
            assert (status.snapshots, status.chunks) == (1, 2)


# What keeps it from starting


def refusal(*arguments: str) -> tuple[int, str]:
    with program(*arguments) as refused:
        return refused.wait(), refused.log


def test_a_second_daemon_on_the_same_folder_is_refused(folder: Path) -> None:
    with program(*arguments(folder)) as running:
        running.wait_for("ready")
        exit_code, log = refusal("--state", f"{folder}/state", "--listen", f"unix:{folder}/t")
        assert exit_code == 1
        assert "Error: opening the store" in log
        assert "another process has it open" in log
        assert authority(folder)
        assert running.stop() == 0


def test_a_socket_that_another_daemon_serves_is_left_to_it(folder: Path) -> None:
    with program(*arguments(folder)) as running:
        running.wait_for("ready")
        exit_code, log = refusal("--state", f"{folder}/other", "--listen", f"unix:{folder}/s")
        assert exit_code == 1
        assert "somebody listens there already" in log
        assert authority(folder)


def test_a_port_that_another_daemon_serves_is_left_to_it(folder: Path) -> None:
    with program(*arguments(folder, "--listen", "tcp:127.0.0.1:0")) as running:
        port = running.wait_for(r"listening on tcp:127.0.0.1:(\d+)")[1]
        address = f"tcp:127.0.0.1:{port}"
        exit_code, log = refusal("--state", f"{folder}/other", "--listen", address)
        assert exit_code == 1
        assert f"Error: {address}: the port is taken" in log


def test_a_socket_left_by_a_killed_daemon_is_no_obstacle(folder: Path) -> None:
    for _ in range(2):
        with program(*arguments(folder)) as running:
            running.wait_for("ready")
            running.kill()


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--listen", "nonsense"], "'nonsense' is no address"),
        (["--config", "/nonexistent.toml"], "does not exist"),
        (["--nonsense"], "No such option"),
        (["rebuild"], "--state is missing"),
    ],
)
def test_wrong_usage_is_explained(folder: Path, more: list[str], complaint: str) -> None:
    exit_code, log = refusal(*([] if more == ["rebuild"] else arguments(folder)), *more)
    assert exit_code in (1, 2)
    assert complaint in log
    assert "Traceback" not in log


@pytest.mark.parametrize(("text", "complaint"), [("opensignup = true", "no setting opensignup")])
def test_a_wrong_configuration_is_explained(folder: Path, text: str, complaint: str) -> None:
    (folder / "c.toml").write_text(text)
    exit_code, log = refusal(*arguments(folder, "--config", f"{folder}/c.toml"))
    assert exit_code == 1
    assert f"{folder}/c.toml: there is {complaint}" in log


def test_without_addresses_it_says_what_is_missing(folder: Path) -> None:
    assert "--listen is missing" in refusal("--state", f"{folder}/state")[1]


# Configuration


def test_the_configuration_says_what_options_do_not(folder: Path) -> None:
    (folder / "c.toml").write_text(
        f'listen = ["unix:{folder}/c"]\nadmin_socket = "{folder}/a"\nopen_signup = true\n'
        'socket_mode = "0600"\n'
    )
    with program("--state", f"{folder}/state", "--config", f"{folder}/c.toml") as running:
        running.wait_for("ready")
        assert (folder / "c").stat().st_mode & 0o777 == 0o600
        assert (folder / "a").is_socket()
        with Client(f"unix:{folder}/c") as client:
            client.sign_up(Person("alice"))


def test_under_systemd_its_folders_are_taken_from_the_environment(folder: Path) -> None:
    (folder / "etc").mkdir()
    (folder / "etc/backitd.toml").write_text("open_signup = true")
    environment = {
        "STATE_DIRECTORY": f"{folder}/state",
        "RUNTIME_DIRECTORY": str(folder),
        "CONFIGURATION_DIRECTORY": f"{folder}/etc",
    }
    with program(environment=environment) as running:
        running.wait_for("ready")
        with Client(f"unix:{folder}/backitd.sock") as client:
            client.sign_up(Person("alice"))


def test_systemd_hears_when_it_is_ready_alive_and_stopping(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"{folder}/notify")
        listener.settimeout(WAIT)
        environment = {"NOTIFY_SOCKET": f"{folder}/notify", "WATCHDOG_USEC": "300000"}
        with program(*arguments(folder), environment=environment) as running:
            assert listener.recv(100) == b"READY=1"
            assert authority(folder)
            assert listener.recv(100) == b"WATCHDOG=1"
            assert listener.recv(100) == b"WATCHDOG=1"
            assert running.stop() == 0
            rest = b""
            while rest != b"STOPPING=1":
                rest = listener.recv(100)


# What it does to itself


def test_files_are_the_owners_alone_and_nothing_can_be_dumped(folder: Path) -> None:
    with program(*arguments(folder, "--open-signup")) as running:
        running.wait_for("ready")
        with Client(f"unix:{folder}/s") as client, Client(f"unix:{folder}/s") as device:
            back_up(client, device, Person("alice"))
        process = Path("/proc") / str(running.process.pid)
        assert resource.prlimit(running.process.pid, resource.RLIMIT_CORE) == (0, 0)
        # The kernel gives the files of a process that is not dumpable to root.
        assert process.joinpath("environ").stat().st_uid == 0
        open_to_others = [
            path
            for path in (folder / "state").rglob("*")
            if path.stat().st_mode & 0o077 and not path.is_symlink()
        ]
        assert open_to_others == []
        assert (folder / "s").stat().st_mode & 0o777 == 0o666


def test_a_new_box_says_where_its_first_code_comes_from(folder: Path) -> None:
    with program(*arguments(folder)) as running:
        found = running.wait_for(r"no account yet.*backitctl (admin invite --socket \S+)")
        running.wait_for("ready")
        command = [str(Path(sys.executable).parent / "backitctl"), *found[1].split()]
        code = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        with Client(f"unix:{folder}/s") as client:
            client.sign_up(Person("first"), code)
        assert running.stop() == 0
        assert code not in running.log
    with program(*arguments(folder)) as running:
        running.wait_for("ready")
        assert "no account yet" not in running.log


def test_the_log_holds_no_secrets(folder: Path) -> None:
    """At the most talkative level: no token, no invite, no challenge, no key, no request."""
    (folder / "c.toml").write_text('log_level = "debug"')
    with program(*arguments(folder, "--config", f"{folder}/c.toml")) as running:
        running.wait_for("ready")
        person, made_up = Person("canary-user"), "canary-made-up"
        target = f"unix:{folder}/s"
        with (
            Client(f"unix:{folder}/state/admin.sock") as admin,
            Client(target) as client,
            Client(target) as device,
        ):
            invite = admin.admin.CreateInvite(appliance_pb2.CreateInviteRequest()).code
            client.sign_up(person, invite)
            person_token = client.log_in(person).token
            machine = person.machine("canary-label")
            client.put(machine.statements())
            device_token = device.log_in_machine(machine).token
            with pytest.raises(grpc.RpcError):
                client.sign_up(Person("other"), invite)
            device.token = made_up
            with pytest.raises(grpc.RpcError):
                device.accounts.GetAccount(
                    accounts_pb2.GetAccountRequest(), metadata=device.metadata
                )
        assert running.stop() == 0
    secrets = {
        "invite": invite,
        "person's login": person_token,
        "machine's login": device_token,
        "made-up": made_up,
        "user": "canary-user",
        "label": "canary-label",
        "salt": person.salt.hex(),
        "login key": person.keys.login.public.hex(),
    }
    assert person.account.hex in running.log  # so there is something to look at
    for name, secret in secrets.items():
        assert secret not in running.log, name
        assert repr(secret.encode())[2:-1] not in running.log, name


def test_stopping_ends_a_running_upload_and_keeps_what_was_acknowledged(folder: Path) -> None:
    (folder / "c.toml").write_text("[limits]\nstop_seconds = 0.2")
    config = ("--config", f"{folder}/c.toml", "--open-signup")
    person, target = Person("alice"), f"unix:{folder}/s"
    held = threading.Event()
    with program(*arguments(folder, *config)) as running:
        running.wait_for("ready")
        with Client(target) as client, Client(target) as device:
            client.sign_up(person)
            client.log_in(person)
            machine = person.machine()
            client.put(machine.statements())
            device.log_in_machine(machine)
            run = machine.run()
            chunk, encoded = run.data(b"content" * 100)

            def messages() -> Iterator[chunks.UploadRequest]:
                yield chunks.UploadRequest(records=[encoded], flush=True)
                held.wait(WAIT)

            answers = device.upload(device.lease(run).name, messages())
            assert next(answers).acknowledged == 1
            assert running.stop() == 0
            with pytest.raises(grpc.RpcError):
                next(answers)
            held.set()
        assert "Traceback" not in running.log
    with program(*arguments(folder)) as running:
        running.wait_for("ready")
        with Client(target) as client:
            client.log_in(person)
            request = chunks.FindLostRequest(domain_id=machine.domain.raw, chunk_ids=[chunk.raw])
            answer = client.chunks.FindLost(request, metadata=client.metadata)
            assert list(answer.lost) == []
