"""Notices: each cloud's protocol against its fake, every way a service can fail, signals while Python cannot run."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.agreement import NO_NOTICE, PRECAUTION, RECLAIM
from harness.board import NoticeBoard
from harness.clock import FakeClock, SystemClock
from harness.config import NoticesConfig, NoticeSource
from harness.errors import InvalidInputError
from harness.fakes import FakeAwsMetadata, FakeAzureMetadata, FakeGcpMetadata, FakeMetadata
from harness.fakes.position import StepWatcher, when_step
from harness.notices import Notice, NoticeSourceError, NoticeWatcher, PolledSource, open_sources
from harness.notices.aws import TOKEN_SECONDS, AwsSource
from harness.notices.azure import FIRST_CALL_SECONDS, AzureSource
from harness.notices.base import http_request
from harness.notices.gcp import GcpSource
from harness.notices.signals import SignalListener
from harness.notices.simple import FileSource, HttpSource
from harness.notices.sources import warning_signals
from harness.telemetry.writer import TelemetryWriter

FAST = 0.3
"""Timeout of requests in these tests; the fakes' slow answers take ten times as long."""


@pytest.fixture
def aws() -> Iterator[FakeAwsMetadata]:
    with FakeAwsMetadata() as metadata:
        yield metadata


def sources(metadata: FakeMetadata, clock: FakeClock | None = None) -> PolledSource:
    clock = clock or FakeClock()
    match metadata:
        case FakeAwsMetadata():
            return AwsSource(metadata.url, clock=clock, timeout_seconds=FAST)
        case FakeGcpMetadata():
            return GcpSource(metadata.url, clock=clock, timeout_seconds=FAST, wait_seconds=0)
        case _:
            return AzureSource(metadata.url, clock=clock, timeout_seconds=FAST, first_call_seconds=FAST)


def test_aws_announces_with_a_deadline(aws: FakeAwsMetadata) -> None:
    """404 is silence; then action and time become a notice; a token is fetched once and used for all requests."""
    source = AwsSource(aws.url)
    assert source.poll() is None
    assert source.poll() is None
    deadline = aws.announce(seconds=120)
    notice = source.poll()
    assert notice is not None
    assert (notice.source, notice.kind) == ("aws", "reclaim")
    assert notice.deadline_wall == pytest.approx(deadline, abs=1.0)  # the service gives whole seconds
    assert [path for method, path, _ in aws.requests if method == "PUT"] == ["/latest/api/token"]
    assert aws.delivered == ["reclaim"]


def test_aws_renews_a_token_that_is_refused_or_old(aws: FakeAwsMetadata) -> None:
    """A 401 renews the token once and asks again; an old token is renewed before it expires."""
    clock = FakeClock()
    source = AwsSource(aws.url, clock=clock)
    assert source.poll() is None
    aws.expire_tokens()
    aws.announce(seconds=60)
    assert source.poll() is not None
    puts = [request for request in aws.requests if request[0] == "PUT"]
    assert len(puts) == 2
    assert ("GET", "/latest/meta-data/spot/instance-action", 401) in aws.requests
    clock.advance(TOKEN_SECONDS)
    source.poll()
    assert len([request for request in aws.requests if request[0] == "PUT"]) == 3


def test_aws_hibernate_leaves_no_two_minutes(aws: FakeAwsMetadata) -> None:
    """Hibernation begins at once, whatever time the notice names."""
    clock = FakeClock(wall=5000.0)
    aws.announce(seconds=120, action="hibernate")
    notice = AwsSource(aws.url, clock=clock).poll()
    assert notice is not None
    assert notice.deadline_wall == 5000.0


@pytest.mark.parametrize("fake", [FakeAwsMetadata, FakeAzureMetadata])
@pytest.mark.parametrize("off_seconds", [-3600.0, 3600.0])
def test_a_clock_that_is_off_does_not_change_the_time_left(fake: type[FakeMetadata], off_seconds: float) -> None:
    """The node's clock is an hour late or early: a notice of 100 s is one of 100 s, by the service's own Date."""
    clock = FakeClock(wall=time.time() + off_seconds)
    with fake() as metadata:
        metadata.announce(seconds=100)
        notice = sources(metadata, clock).poll()
        assert notice is not None
        assert notice.deadline_wall is not None
        # Whole seconds in both of the service's times, and the time that this test takes.
        assert notice.deadline_wall - clock.wall() == pytest.approx(100, abs=20)


def test_azure_gives_its_first_answer_the_time_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first question turns the service on: it may take two minutes; later ones get the short timeout."""
    asked: list[tuple[str, float]] = []

    def recorded(url: str, **options: Any) -> Any:
        asked.append((url.partition("?")[0].rpartition("/")[2], options["timeout_seconds"]))
        return http_request(url, **options)

    monkeypatch.setattr("harness.notices.azure.http_request", recorded)
    with FakeAzureMetadata() as azure:
        source = AzureSource(azure.url)
        source.poll()
        source.poll()
    assert asked == [("name", 2.0), ("scheduledevents", FIRST_CALL_SECONDS), ("scheduledevents", 2.0)]
    assert FIRST_CALL_SECONDS >= 120


def test_aws_rebalance_is_a_hint_and_a_reclaim_comes_first(aws: FakeAwsMetadata) -> None:
    """The recommendation alone is a ``rebalance``; beside a notice the notice counts."""
    aws.announce(kind="rebalance")
    source = AwsSource(aws.url)
    hint = source.poll()
    assert hint is not None
    assert (hint.kind, hint.deadline_wall) == ("rebalance", None)
    aws.announce(kind="reclaim")
    notice = source.poll()
    assert notice is not None
    assert notice.kind == "reclaim"


def test_gcp_answers_when_the_value_changes() -> None:
    """The second request waits inside the server and returns on the change, not after the wait."""
    with FakeGcpMetadata() as gcp:
        clock = FakeClock(wall=1000.0)
        source = GcpSource(gcp.url, clock=clock, notice_seconds=30, wait_seconds=20)
        assert source.poll() is None
        waiting = threading.Thread(target=lambda: found.append(source.poll()))
        found: list[Notice | None] = []
        waiting.start()
        gcp.announce()
        waiting.join(10)
        assert not waiting.is_alive()
        assert found[0] is not None
        assert found[0].deadline_wall == 1030.0
        assert "wait_for_change=true" in gcp.requests[-1][1]


def test_azure_hears_only_of_its_own_vm() -> None:
    """Another VM's Preempt event, always in the list, is not ours."""
    with FakeAzureMetadata() as azure:
        source = AzureSource(azure.url)
        assert source.poll() is None
        deadline = azure.announce(seconds=45)
        notice = source.poll()
        assert notice is not None
        assert notice.deadline_wall == pytest.approx(deadline, abs=1.0)
        assert "mine" in notice.detail


@pytest.mark.parametrize("fake", [FakeAwsMetadata, FakeGcpMetadata, FakeAzureMetadata])
@pytest.mark.parametrize("how", ["error", "unauthorized", "missing", "garbage", "half", "slow", "absent"])
def test_a_broken_service_disturbs_nothing(
    fake: type[FakeMetadata], how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """5xx, 401, 404, garbage, half a JSON, no answer in time, nobody there: one line in the log, no notice, no error.

    When the service is well again, its notice is heard by the same source.
    """
    heard: list[Notice] = []
    with fake() as metadata:
        if how == "absent":
            address = "http://127.0.0.1:9"  # discard: nobody listens there
            broken = type(sources(metadata))(address, timeout_seconds=FAST)  # type: ignore[call-arg]
        else:
            broken = sources(metadata)
            metadata.announce(seconds=60)
            metadata.misbehave(how)  # type: ignore[arg-type]
        watcher = NoticeWatcher([broken], poll_seconds=5, on_notice=heard.append, clock=FakeClock())
        with caplog.at_level(logging.WARNING, logger="harness.notices"):
            watcher.poll_once()
            watcher.poll_once()
        assert heard == []
        assert len(caplog.records) == 1, [record.message for record in caplog.records]
        assert "training goes on" in caplog.records[0].message
        if how != "absent":
            assert metadata.arrivals, "the fault was never met"
            metadata.misbehave("none")
            watcher.poll_once()
            assert [notice.kind for notice in heard] == ["reclaim"]


def test_a_bug_in_one_source_stops_no_other(aws: FakeAwsMetadata, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a source raises, the others are asked."""

    class Broken:
        name = "broken"

        def poll(self) -> Notice | None:
            raise RuntimeError("a bug")

    heard: list[Notice] = []
    aws.announce()
    watcher = NoticeWatcher([Broken(), AwsSource(aws.url)], poll_seconds=5, on_notice=heard.append, clock=FakeClock())
    watcher.poll_once()
    assert [notice.source for notice in heard] == ["aws"]
    assert "RuntimeError: a bug" in caplog.text


def test_each_kind_is_reported_once(aws: FakeAwsMetadata) -> None:
    """A hint that stays is one notice; the reclaim after it another."""
    heard: list[Notice] = []
    watcher = NoticeWatcher([AwsSource(aws.url)], poll_seconds=5, on_notice=heard.append, clock=FakeClock())
    aws.announce(kind="rebalance")
    for _ in range(3):
        watcher.poll_once()
    aws.announce(kind="reclaim")
    for _ in range(3):
        watcher.poll_once()
    assert [notice.kind for notice in heard] == ["rebalance", "reclaim"]


def test_the_watcher_hears_in_its_own_thread(aws: FakeAwsMetadata) -> None:
    """A started watcher needs nobody to call it."""
    heard = threading.Event()
    watcher = NoticeWatcher([AwsSource(aws.url)], poll_seconds=0.01, on_notice=lambda _: heard.set())
    watcher.start()
    aws.announce()
    assert heard.wait(10)
    watcher.close()


def test_file_and_url_sources(tmp_path: Path, aws: FakeAwsMetadata) -> None:
    """A file that appears, a URL that answers 200; a number of seconds in them is the time left."""
    clock = FakeClock(wall=100.0)
    path = tmp_path / "notice"
    source = FileSource(str(path), clock=clock, notice_seconds=30)
    assert source.poll() is None
    path.write_text("power off tonight")
    assert source.poll() == Notice("file", "reclaim", 130.0, f"{path} exists")
    path.write_text(json.dumps({"seconds": 7}))
    found = source.poll()
    assert found is not None
    assert found.deadline_wall == 107.0
    with pytest.raises(NoticeSourceError, match="401"):
        HttpSource(f"{aws.url}/latest/meta-data/x", clock=clock).poll()
    with FakeGcpMetadata() as other, pytest.raises(NoticeSourceError, match="403"):
        HttpSource(other.url, clock=clock).poll()


def test_redirects_and_endless_bodies_are_refused() -> None:
    """A metadata service neither redirects nor answers with megabytes."""

    class Odd(FakeMetadata):
        def handle(self, method: str, path: str, headers: dict[str, str], body: bytes):  # type: ignore[no-untyped-def]
            from harness.fakes.metadata import Answer

            return Answer(200, b"x" * 100_000) if path == "/big" else Answer(304)

    with Odd() as odd:
        with pytest.raises(NoticeSourceError, match="304"):
            http_request(odd.url)
        with pytest.raises(NoticeSourceError, match="more than"):
            http_request(f"{odd.url}/big")


def test_sources_come_from_the_config(tmp_path: Path) -> None:
    """One object per polled source, ``{node}`` filled in; a file source without a path is bad input."""
    config = NoticesConfig(
        sources=(
            NoticeSource(kind="sigterm"),
            NoticeSource(kind="signal", address="SIGUSR1", seconds=90),
            NoticeSource(kind="aws"),
            NoticeSource(kind="gcp"),
            NoticeSource(kind="azure"),
            NoticeSource(kind="file", address=str(tmp_path / "n-{node}")),
        )
    )
    (tmp_path / "n-3").write_text("")
    opened = open_sources(config, node=3, clock=FakeClock())
    assert [source.name for source in opened] == ["aws", "gcp", "azure", "file"]
    assert opened[3].poll() is not None
    assert warning_signals(config) == {signal.SIGUSR1: 90.0}
    # GCP's notice length is a setting of the instance, so one of the source, too.
    with FakeGcpMetadata() as gcp:
        gcp.announce()
        configured = NoticesConfig(sources=(NoticeSource(kind="gcp", address=gcp.url, seconds=300),), notice_seconds=30)
        notice = open_sources(configured, node=0, clock=FakeClock(wall=1000.0))[0].poll()
    assert notice is not None
    assert notice.deadline_wall == 1300.0
    with pytest.raises(InvalidInputError, match="address"):
        open_sources(NoticesConfig(sources=(NoticeSource(kind="file"),)), node=0, clock=FakeClock())


def test_the_fake_is_driven_over_http(aws: FakeAwsMetadata) -> None:
    """`curl -X POST …/control/notice` does what `announce` does; nonsense is a 400."""
    source = AwsSource(aws.url)

    def post(what: str, body: str) -> int:
        import urllib.request

        request = urllib.request.Request(f"{aws.url}/control/{what}", data=body.encode(), method="POST")
        try:
            with urllib.request.urlopen(request) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return int(error.code)

    assert post("notice", '{"seconds": 30, "kind": "rebalance"}') == 200
    assert (source.poll() or Notice("")).kind == "rebalance"
    assert post("withdraw", "") == 200
    assert source.poll() is None
    assert post("notice", '{"kind": "earthquake"}') == 400
    assert post("notice", "not json") == 400
    assert post("misbehave", '{"how": "error"}') == 200
    with pytest.raises(NoticeSourceError, match="503"):
        source.poll()


def test_the_fake_announces_when_a_step_is_reached(tmp_path: Path, aws: FakeAwsMetadata) -> None:
    """By position: not before the step, and as soon as the telemetry says so."""
    log = TelemetryWriter(tmp_path / "t", run_id="r", node=0, rank=0, world_size=1)
    log.claim("a", 1)
    watcher = StepWatcher(tmp_path)
    stop = threading.Event()

    class Training(FakeClock):
        """Each wait for the next look, the run does one more step."""

        def wait(self, event: threading.Event, seconds: float) -> bool:
            log.emit("window", step=watcher.step() + 1, steps=1, samples=1, seconds=1.0)
            return super().wait(event, seconds)

    reached: list[int] = []
    assert when_step(watcher, 7, lambda: reached.append(watcher.step()), stop=stop, clock=Training())
    assert reached == [7]
    stop.set()
    assert when_step(watcher, 99, lambda: reached.append(99), stop=stop) is False
    assert reached == [7]


def test_a_taken_port_is_one_line(aws: FakeAwsMetadata) -> None:
    """The fake says which port it could not have."""
    with pytest.raises(InvalidInputError, match=f"port: got {aws.port}, expected a free port"):
        FakeAwsMetadata(aws.port)


def board(clock: FakeClock | SystemClock) -> tuple[NoticeBoard, list[tuple[Notice, float | None]]]:
    heard: list[tuple[Notice, float | None]] = []
    return (
        NoticeBoard(clock, on_notice=lambda *notice: heard.append(notice), shutdown_timeout_seconds=30.0),
        heard,
    )


def test_the_board_keeps_the_gravest_notice() -> None:
    """A hint asks for a save, a reclaim for leaving; a hint after it changes nothing."""
    clock = FakeClock(wall=1000.0)
    found, heard = board(clock)
    assert found.level == NO_NOTICE
    found.hear(Notice("aws", "rebalance"))
    assert found.level == PRECAUTION
    found.precaution_taken()
    assert found.level == NO_NOTICE
    clock.advance(5)
    found.hear(Notice("aws", "reclaim", 1065.0))
    found.hear(Notice("aws", "rebalance"))
    found.precaution_taken()
    assert (found.level, found.heard_monotonic) == (RECLAIM, 5.0)
    assert [left for _, left in heard] == [None, 60.0, None]


def test_signals_on_the_board() -> None:
    """SIGTERM dooms this node, SIGINT stops the run; the agent's answer to our own signal is neither."""
    found, heard = board(FakeClock())
    found.hear_signal(signal.SIGTERM)
    found.hear_signal(signal.SIGTERM)
    assert (found.level, found.stop.is_set(), len(heard)) == (RECLAIM, False, 1)
    assert heard[0][0].source == "sigterm"
    assert heard[0][1] == pytest.approx(30.0)
    stopped, _ = board(FakeClock())
    stopped.hear_signal(signal.SIGINT)
    assert stopped.stop.is_set()
    expecting, heard = board(FakeClock())
    expecting.expecting_signal = True
    expecting.hear_signal(signal.SIGTERM)
    assert expecting.signalled.is_set()
    assert (expecting.level, heard) == (NO_NOTICE, [])


def test_a_schedulers_signal_is_a_notice_with_its_own_time() -> None:
    """Slurm's ``--signal=USR1@90``: 90 s for this node, of which the agent knows nothing; SIGTERM shortens them."""
    clock = FakeClock()
    heard: list[tuple[Notice, float | None]] = []
    found = NoticeBoard(
        clock,
        on_notice=lambda *notice: heard.append(notice),
        shutdown_timeout_seconds=30.0,
        warnings={signal.SIGUSR1: 90.0},
    )
    assert found.seconds_left is None
    found.hear_signal(signal.SIGUSR1)
    found.hear_signal(signal.SIGUSR1)
    assert [notice.source for notice, _ in heard] == ["sigusr1"]
    assert heard[0][1] == pytest.approx(90.0)
    assert (found.level, found.signalled.is_set(), found.stop.is_set()) == (RECLAIM, False, False)
    clock.advance(10)
    assert found.seconds_left == pytest.approx(80.0)
    found.hear_signal(signal.SIGTERM)
    assert found.seconds_left == pytest.approx(30.0)
    assert found.signalled.is_set()


def test_signals_are_heard_while_the_main_thread_is_inside_c() -> None:
    """The main thread sits in a C call that signals do not interrupt (a locked mutex): the listener still hears.

    Only what it hears unlocks the mutex; a watchdog does so after 20 s, and then the test fails.
    """
    libc = ctypes.CDLL(None)
    mutex = ctypes.create_string_buffer(64)  # PTHREAD_MUTEX_INITIALIZER is all zeros on Linux
    libc.pthread_mutex_lock(mutex)
    heard: list[signal.Signals] = []

    def on_signal(number: signal.Signals) -> None:
        heard.append(number)
        libc.pthread_mutex_unlock(mutex)

    late = threading.Event()
    watchdog = threading.Timer(20.0, lambda: (late.set(), libc.pthread_mutex_unlock(mutex)))
    watchdog.daemon = True
    listener = SignalListener(on_signal, signals=(signal.SIGUSR1,))
    sender = threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    try:
        watchdog.start()
        sender.start()
        libc.pthread_mutex_lock(mutex)
    finally:
        watchdog.cancel()
        listener.close()
    assert not late.is_set()
    assert heard == [signal.SIGUSR1]


def test_the_listener_puts_old_handlers_back() -> None:
    """After close, handlers and wake-up descriptor are what they were; another listener's wake-ups are passed on."""
    before = signal.getsignal(signal.SIGUSR2)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    old = signal.set_wakeup_fd(writing)
    try:
        heard = threading.Event()
        listener = SignalListener(lambda _: heard.set(), signals=(signal.SIGUSR2,))
        os.kill(os.getpid(), signal.SIGUSR2)
        assert heard.wait(10)
        assert os.read(reading, 8) == bytes([signal.SIGUSR2])
        listener.close()
        assert signal.getsignal(signal.SIGUSR2) == before
        assert signal.set_wakeup_fd(old) == writing
    finally:
        signal.set_wakeup_fd(-1)
        os.close(reading)
        os.close(writing)
