"""Dialling: whatever a name or an address does, the answer is a stage and a word, never another exception."""

import socket

import pytest

from agent.simulator.mosquitto import free_port
from agent.system.broker import BrokerAddress, BrokerError, Dialer, url_problem


def test_a_label_that_no_name_can_have_is_an_unknown_name() -> None:
    with pytest.raises(BrokerError) as caught:
        Dialer(BrokerAddress("broker..example", 8883)).dial()
    assert (caught.value.stage, caught.value.reason) == ("dns", "unknown-name")
    assert url_problem("mqtts://broker..example:8883") is not None


def test_an_address_of_a_family_that_the_kernel_lacks_does_not_hide_the_next_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = server.getsockname()
        unsupported = (255, socket.SOCK_STREAM, 0, "", ("::1", here[1]))
        good = (socket.AF_INET, socket.SOCK_STREAM, 0, "", here)
        connection = Dialer(BrokerAddress("broker.example", here[1]), lambda *_: [unsupported, good]).dial()
        assert connection.getpeername() == here
        connection.close()


def test_when_the_name_is_not_found_any_more_the_last_good_address_is_tried() -> None:
    answers = [[(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0))]]
    with socket.create_server(("127.0.0.1", 0)) as server:
        answers[0][0] = (*answers[0][0][:4], server.getsockname())

        def resolve(*_: object) -> list[tuple[object, ...]]:
            if not answers:
                raise socket.gaierror(socket.EAI_AGAIN, "no answer")
            return list(answers.pop())

        dialer = Dialer(BrokerAddress("broker.example", 1), resolve)
        for _ in range(2):
            dialer.dial().close()


def test_a_closed_port_is_refused() -> None:
    with pytest.raises(BrokerError) as caught:
        Dialer(BrokerAddress("127.0.0.1", free_port())).dial()
    assert (caught.value.stage, caught.value.reason) == ("connect", "refused")
