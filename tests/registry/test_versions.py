"""What other slices ask of the registry."""

import json
import threading
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save
from sqlmodel import Session

from factories import Tenant
from model_makers import SIGNATURE
from onnx_makers import linear_onnx
from raymill.kernel.resources import Resources
from raymill.registry import lineage, pins, service, versions
from raymill.registry.errors import ModelNotFound, VersionNotDraft, VersionNotFound, VersionNotServable, VersionPinned
from raymill.registry.schemas import Framework, VersionComplete, VersionCreate
from registry_makers import import_version, make_draft, make_model

pytestmark = pytest.mark.integration


def test_the_servable_artifact_is_the_onnx_file(alice: Tenant, resources: Resources, session: Session) -> None:
    version = import_version(alice, make_model(alice))
    found = versions.servable(session, version["id"])
    assert (found.format, found.sha256) == ("onnx", version["artifacts"][0]["checksum"])
    assert found.size_bytes == len(linear_onnx())
    assert found.signature == version["signature"]
    with resources.store.open(found.uri) as file:
        assert file.read() == linear_onnx()


def test_a_draft_and_a_version_without_onnx_are_not_servable(alice: Tenant, session: Session) -> None:
    model_id = make_model(alice)
    draft = make_draft(alice, model_id)
    with pytest.raises(VersionNotServable, match="draft"):
        versions.servable(session, draft["id"])
    session.rollback()
    alice.put(f"/models/{model_id}/versions/1/artifacts/weights.bin", params={"type": "weights"}, content=b"w")
    alice.post(f"/models/{model_id}/versions/1/complete", json={})
    session.expire_all()
    with pytest.raises(VersionNotServable, match="ONNX"):
        versions.servable(session, draft["id"])
    with pytest.raises(VersionNotFound):
        versions.servable(session, "mdv_none")


def test_the_newest_ready_version_is_the_default(alice: Tenant, session: Session) -> None:
    model_id = make_model(alice)
    with pytest.raises(VersionNotFound, match="ready"):
        versions.get_version(session, model_id)
    import_version(alice, model_id)
    make_draft(alice, model_id)
    assert versions.get_version(session, model_id).version == 1
    assert versions.get_version(session, model_id, 2).status == "draft"


def test_a_model_is_found_by_name_or_id_in_its_project_only(alice: Tenant, bob: Tenant, session: Session) -> None:
    model_id = make_model(alice)
    assert service.get_model_in(session, alice.project_id, "digits").id == model_id
    assert service.get_model_in(session, alice.project_id, model_id).id == model_id
    with pytest.raises(ModelNotFound):
        service.get_model_in(session, bob.project_id, model_id)


def test_ensuring_a_model_makes_it_once(alice: Tenant, resources: Resources) -> None:
    ids: list[str] = []

    def ensure() -> None:
        with resources.session() as session:
            model = service.ensure_model(
                session, project_id=alice.project_id, name="m", framework=Framework.PYTORCH, created_by="usr_1"
            )
            ids.append(model.id)

    threads = [threading.Thread(target=ensure) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8
    assert len(set(ids)) == 1


def test_a_pin_that_is_being_made_holds_a_deletion_back(alice: Tenant, resources: Resources) -> None:
    model_id = make_model(alice)
    version = import_version(alice, model_id)
    answers: list[int] = []
    with resources.session() as session:
        pins.pin(session, version_id=version["id"], owner="deployment digits")
        deletion = threading.Thread(target=lambda: answers.append(alice.delete(f"/models/{model_id}").status_code))
        deletion.start()
        deletion.join(0.5)
        assert deletion.is_alive()
    deletion.join(10)
    assert answers == [409]


def test_a_pin_on_nothing_is_refused(session: Session) -> None:
    with pytest.raises(VersionNotFound):
        pins.pin(session, version_id="mdv_none", owner="deployment digits")


def test_a_pin_names_its_owner_to_whoever_deletes(alice: Tenant, session: Session) -> None:
    version = import_version(alice, make_model(alice))
    pins.check_unpinned(session, [version["id"]])
    pins.pin(session, version_id=version["id"], owner="deployment digits")
    with pytest.raises(VersionPinned, match="version 1 by deployment digits"):
        pins.check_unpinned(session, [version["id"]])


def link(session: Session, project_id: str, *chain: tuple[str, str]) -> None:
    for source, target in pairwise(chain):
        lineage.link(session, project_id=project_id, source=source, target=target)


def ends(edges: list[Any]) -> list[tuple[str, str]]:
    return [(edge.source_id, edge.target_id) for edge in edges]


def test_lineage_runs_both_ways_and_not_to_siblings(alice: Tenant, session: Session) -> None:
    data, job, made, served = (
        ("dataset_version", "d"), ("training_job", "j"), ("model_version", "m"), ("deployment", "s"),
    )  # fmt: skip
    link(session, alice.project_id, data, job, made, served)
    link(session, alice.project_id, data, job, made, served)
    link(session, alice.project_id, data, ("training_job", "sibling"), ("model_version", "sibling"))
    expected = [("d", "j"), ("j", "m"), ("m", "s")]
    for kind, id_ in (made, job, served):
        assert ends(lineage.lineage_of(session, kind, id_)) == expected
    assert len(lineage.lineage_of(session, *data)) == 5
    assert lineage.lineage_of(session, "model_version", "unknown") == []


def test_lineage_that_bites_its_tail_ends(alice: Tenant, session: Session) -> None:
    a, b = ("model_version", "a"), ("model_version", "b")
    link(session, alice.project_id, a, b, a)
    assert sorted(ends(lineage.lineage_of(session, *a))) == [("a", "b"), ("b", "a")]


def test_an_unknown_kind_is_refused(alice: Tenant, session: Session) -> None:
    with pytest.raises(ValueError, match="banana"):
        link(session, alice.project_id, ("banana", "a"), ("model_version", "b"))


def test_a_draft_whose_graph_was_replaced_meanwhile_is_not_completed(
    alice: Tenant, session: Session, resources: Resources
) -> None:
    model_id = make_model(alice)
    draft = make_draft(alice, model_id)
    path = f"/models/{model_id}/versions/1/artifacts/model.onnx"
    checked = alice.put(path, content=linear_onnx()).json()["checksum"]
    alice.put(path, content=linear_onnx(fill=2.0))
    with pytest.raises(VersionNotDraft, match="replaced"):
        versions.mark_ready(session, version_id=draft["id"], data=VersionComplete(), signature=None, opened=checked)


def test_safetensors_are_weights_unless_they_name_an_architecture_and_may_not_be_replaced_either(
    alice: Tenant, session: Session
) -> None:
    model_id = make_model(alice)
    draft = make_draft(alice, model_id)
    path = f"/models/{model_id}/versions/1/artifacts/model.safetensors"
    checked = alice.put(path, content=save({"w": np.zeros(2, np.float32)})).json()["checksum"]
    alice.put(path, content=save({"w": np.ones(2, np.float32)}))
    with pytest.raises(VersionNotDraft, match="replaced"):
        versions.mark_ready(session, version_id=draft["id"], data=VersionComplete(), signature=None, opened=checked)
    session.rollback()
    alice.put(f"/models/{model_id}/versions/1/artifacts/model.pt", content=b"a program")
    ready = alice.post(f"/models/{model_id}/versions/1/complete", json={"signature": SIGNATURE.model_dump()}).json()
    types = {artifact["path"]: artifact["type"] for artifact in ready["artifacts"]}
    assert (ready["status"], types) == ("ready", {"model.safetensors": "weights", "model.pt": "model"})
    assert versions.servable(session, draft["id"]).format == "torchscript"


def test_the_graph_at_the_top_is_the_one_that_is_served(alice: Tenant, session: Session) -> None:
    model_id = make_model(alice)
    draft = make_draft(alice, model_id)
    for path in ("a/encoder.onnx", "model.onnx", "z.onnx"):
        alice.put(f"/models/{model_id}/versions/1/artifacts/{path}", content=linear_onnx())
    found = versions.find_opened(versions.list_artifacts(session, draft["id"]))
    assert found is not None
    assert (found[0], found[1].path) == ("onnx", "model.onnx")


def test_each_tier_gets_the_form_it_can_run_and_onnx_where_there_is_one(
    alice: Tenant, resources: Resources, session: Session
) -> None:
    model_id = make_model(alice)
    described = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]}
    described["outputs"] = described["inputs"]
    network = save({"w": np.ones(2, np.float32)}, {"raymill": json.dumps({"signature": described})})
    files = {"model.pt": b"any bytes", "model.safetensors": network}
    for number in (1, 2):
        make_draft(alice, model_id)
        for path, content in list(files.items())[:number]:
            alice.put(f"/models/{model_id}/versions/{number}/artifacts/{path}", content=content)
        done = alice.post(f"/models/{model_id}/versions/{number}/complete", json={"signature": described})
        assert done.status_code == 200, done.text
    make_draft(alice, model_id)
    alice.put(f"/models/{model_id}/versions/3/artifacts/model.safetensors", content=b"any bytes")
    damaged = alice.post(f"/models/{model_id}/versions/3/complete", json={"signature": described})
    assert (damaged.status_code, "not safetensors" in damaged.json()["message"]) == (422, True)
    program, both = (versions.get_version(session, model_id, number).id for number in (1, 2))
    assert versions.servable(session, program).format == "torchscript"
    assert versions.servable(session, both).format == "safetensors"
    assert versions.servable(session, both, formats=["torchscript", "keras"]).format == "torchscript"
    with pytest.raises(VersionNotServable, match="dedicated tier alone"):
        versions.servable(session, program, formats=["onnx", "safetensors"])


def test_a_program_without_signature_is_not_servable(alice: Tenant, session: Session) -> None:
    model_id = make_model(alice)
    draft = make_draft(alice, model_id)
    alice.put(f"/models/{model_id}/versions/1/artifacts/model.keras", content=b"any bytes")
    assert alice.post(f"/models/{model_id}/versions/1/complete", json={}).status_code == 200
    with pytest.raises(VersionNotServable, match="no signature"):
        versions.servable(session, draft["id"])


def test_what_was_deleted_meanwhile_is_not_found(alice: Tenant, session: Session) -> None:
    model = service.get_model(session, make_model(alice))
    session.commit()
    alice.delete(f"/models/{model.id}")
    with pytest.raises(ModelNotFound):
        versions.create_version(session, model=model, data=VersionCreate(), created_by="usr_1")
    with pytest.raises(VersionNotFound):
        versions.mark_failed(session, version_id="mdv_none", error="e")
    with pytest.raises(VersionNotFound):
        versions.get_version_by_id(session, "mdv_none")
    session.expunge_all()
    with pytest.raises(ModelNotFound):
        service.get_model(session, model.id)
