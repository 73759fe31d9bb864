"""What the tests share: a socket's path, and a server."""

import pytest
import ringpost


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bus.sock"


@pytest.fixture
def server(path):
    def service(request, peer):
        if request == b"fail":
            raise ringpost.errors.ServiceError("as asked")
        if request == b"who":
            return peer.name.encode()
        return request

    with ringpost.Server(path, service=service) as server:
        yield server


@pytest.fixture
def alice(path, server):
    with ringpost.Client("alice", path) as client:
        yield client


@pytest.fixture
def bob(path, server):
    with ringpost.Client("bob", path) as client:
        yield client
