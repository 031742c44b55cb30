"""The import graph of the functions: no circle, no import that points outwards."""

from tests.structure import ROOT, circle, import_graph, outward_imports


def test_import_graph() -> None:
    graph = import_graph(ROOT)
    assert {"buy_ticket.app", "ticketing.store", "ticketing.rules"} <= graph.keys()
    assert circle(graph) == []
    assert outward_imports(graph) == []


def test_circle_is_found() -> None:
    graph = {"ticketing.rules": {"ticketing.retry"}, "ticketing.retry": {"ticketing.rules"}}
    assert set(circle(graph)) == graph.keys()


def test_outward_import_is_found() -> None:
    graph = {"ticketing.rules": {"ticketing.store"}, "ticketing.store": {"ticketing.rules"}}
    assert outward_imports(graph) == ["ticketing.rules imports ticketing.store"]
