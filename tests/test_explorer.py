import base64
import gzip
import json
import os
import re
from functools import cache

import numpy as np
import pytest
from PIL import Image
from scipy.sparse import csc_array

from xsae.alignment import Alignment
from xsae.data import world
from xsae.data.own import from_arrays
from xsae.evaluation.labels import purity
from xsae.methods import Method, TrainingConfig, pair_codes, posthoc, train_saes
from xsae.report import explorer
from xsae.report.explorer_data import NEIGHBOURS, _evenly, _histogram, _map, _top, items, view
from xsae.run import provenance, results

ALPHAS = [0.0, 0.5, 2.0]
HOSTILE = "</script><script>document.title = 'taken'</script><img src=x onerror=document.title='taken'>"


@cache
def trained(store, name, seed=1):
    rows = {m: store.split("train")[m].to_numpy() for m in store.modalities}
    arrays = {m: store[m] for m in store.modalities}
    config = TrainingConfig(latents=64, k=4, epochs=8, batch_size=64)
    saes, _ = train_saes("shared" if name == "shared" else "separated", arrays, rows, config, seed)
    return posthoc(saes, pair_codes(Method(saes), store)) if name == "posthoc" else Method(saes)


def views_of(store, backbone="vit", seeds=(1,)):
    return [
        ({"backbone": backbone, "method": name, "bias_start": "mean", "seed": seed, "modality": other},
         view(trained(store, name, seed), store, other, ALPHAS, seed))
        for name in explorer.SHOWN for seed in seeds for other in store.modalities[1:]
    ]  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return world.embed({"vit": tmp_path_factory.mktemp("world") / "vit"}, 300, 60)["vit"]


@pytest.fixture(scope="module")
def views(store):
    return views_of(store, seeds=(1, 2))


@pytest.fixture(scope="module")
def page(store, views, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XSAE_ROOT", str(tmp_path_factory.mktemp("root")))
        return written("smoke", {"vit": store}, views, explorer.pictures(store))


def written(run, stores, views, shown):
    return results.write_page(run, "explorer.html", explorer.page(provenance.facts(run), stores, views, ALPHAS, shown))


def own_store(folder, n=60, d=8, caption=None):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, d))
    captions = None if caption is None else np.array([caption] * n)
    return from_arrays(folder, image=x, text=x + rng.standard_normal((n, d)) / 2, caption=captions, held_out=0.5)


def contents(path):
    packed = re.search(r'<script id="data" type="text/plain">([^<]*)</script>', path.read_text())[1]
    return json.loads(gzip.decompress(base64.b64decode(packed)))


# --- what is shown ---


def test_a_sample_is_even_and_has_both_ends():
    assert _evenly(5, 7).tolist() == [0, 1, 2, 3, 4]
    assert _evenly(9, 3).tolist() == [0, 4, 8]


def test_what_fires_most_comes_first_and_of_equals_the_first_row():
    codes = csc_array(np.array([[0.0, 1], [2, 0], [3, 0], [2, 0], [0, 0]]))
    assert _top(codes, 2) == ([[2, 1], [0]], [[3, 2], [1]])
    assert _top(codes, 9)[0] == [[2, 1, 3], [0]]


def test_histograms_count_every_activation_once_and_the_largest_in_the_last_bin():
    codes = csc_array(np.array([[1.0, 0, 0], [12, 0, 5], [6.5, 0, 0]]))
    counts, largest = _histogram(codes)
    assert largest.tolist() == [12, 0, 5] and counts.sum(axis=1).tolist() == [3, 0, 1]
    assert np.flatnonzero(counts[0]).tolist() == [1, 6, 11] and counts[2, 11] == 1


def test_the_map_keeps_distances_of_directions_that_lie_in_a_plane():
    rng = np.random.default_rng(0)
    plane = np.linalg.qr(rng.standard_normal((6, 2)))[0]
    a, b = rng.standard_normal((2, 5, 2))
    places = _map(a @ plane.T, b @ plane.T)
    np.testing.assert_allclose(np.hypot(*(places[:, :2] - places[:, 2:]).T), np.linalg.norm(a - b, axis=1))


def test_a_view_is_of_the_alignment_of_posthoc_and_matches_a_shared_autoencoder_with_itself(store, views):
    for settings, one_view in views:
        method = trained(store, settings["method"], settings["seed"])
        codes = pair_codes(Method(method.saes), store)
        alignment = method.alignments.get("text") or Alignment().fit(codes["image"], codes["text"])
        shown = one_view.matches
        assert one_view.of == len(shown) == alignment.matched_.sum() and shown["correlation"].is_monotonic_decreasing
        np.testing.assert_array_equal(shown["partner"], alignment.permutation_[shown["latent"]])
        directions = [method.saes[m].directions[shown[at]] for m, at in (("image", "latent"), ("text", "partner"))]
        np.testing.assert_allclose(shown["gap"], 1 - (directions[0] * directions[1]).sum(axis=1), atol=1e-6)


def test_a_latent_that_serves_both_modalities_is_its_own_partner(tmp_path):
    x = np.random.default_rng(0).standard_normal((60, 8))
    same = from_arrays(tmp_path / "store", image=x, text=x, held_out=0.5)
    found = view(trained(same, "shared"), same, "text", ALPHAS, 1).matches
    np.testing.assert_array_equal(found["latent"], found["partner"])
    np.testing.assert_allclose(found["gap"], 0, atol=1e-6)
    np.testing.assert_allclose(found["correlation"], 1, atol=1e-6)


def test_purity_is_that_of_held_out_items_under_the_label_of_training_pairs(store, views):
    settings, one_view = views[0]
    shown, method = items(store), trained(store, "posthoc")
    codes = method.saes["image"].transform(store["image"][shown["image"]])[:, one_view.matches["latent"]]
    concepts = sorted(set(one_view.matches["image_label"]) - {""})
    place = np.array([concepts.index(label) if label else -1 for label in one_view.matches["image_label"]])
    expected = purity(codes, shown["concepts"], concepts, place)
    np.testing.assert_allclose(one_view.matches["image_purity"], expected, rtol=1e-6)
    assert (one_view.matches["image_purity"].dropna() > 0.3).any()


def test_what_is_steered_does_not_hold_the_label_and_more_push_preserves_less(store, views):
    shown, one_view = items(store), views[0][1]
    steered = [
        (label, one) for label, one in zip(one_view.matches["image_label"], one_view.steered, strict=True) if one
    ]
    assert steered
    for label, one in steered:
        assert label not in shown["concepts"][one["start"]] and one["start"] not in one["before"]
        assert [len(after) for after in one["after"]] == [NEIGHBOURS] * 3
        assert one["preservation"][2] < one["preservation"][0]
        assert len(one["mAP"]) in (0, 3)
    rise = np.mean([one["mAP"][2] - one["mAP"][0] for label, one in steered if one["mAP"]])
    assert rise > 0.1  # along a latent, the items that hold its label come nearer


def test_more_matches_and_items_than_a_page_carries_are_sampled_and_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("XSAE_ROOT", str(tmp_path))
    small_store = own_store(tmp_path / "store")
    for name, most in (("MOST_MATCHES", 6), ("MOST_ITEMS", 20)):
        monkeypatch.setattr(f"xsae.report.explorer_data.{name}", most)
        monkeypatch.setattr(explorer, name, most)
    found = views_of(small_store, "own")
    path = written("own", {"own": small_store}, found, explorer.pictures(small_store))
    assert [len(one_view.matches) for _, one_view in found] == [6, 6] and found[0][1].of > 6
    assert (
        len(items(small_store)) == 20
        and "6 matches of up to" in path.read_text()
        and "20 held-out pairs" in path.read_text()
    )


# --- the page ---


def test_the_page_is_small_whole_and_the_same_bytes_twice(store, views, page, monkeypatch):
    text = page.read_bytes()
    assert len(text) < 1_000_000 and not re.search(rb"https?://(?!www.w3.org/2000/svg)", text)
    assert b"Smoke run." in text and b"60</dd>" in text
    monkeypatch.setenv("XSAE_ROOT", str(page.parents[2]))
    assert written("smoke", {"vit": store}, views, explorer.pictures(store)).read_bytes() == text
    found = contents(page)
    assert [one_view["method"] for one_view in found["views"]] == ["posthoc", "posthoc", "shared", "shared"]
    assert found["picture"] == {"columns": 8, "rows": 8, "width": 64, "height": 64}
    assert found["captions"] == items(store)["caption"].tolist()


def test_the_table_has_a_line_per_match(views):
    table = explorer.table(views)
    assert len(table) == sum(len(one_view.matches) for _, one_view in views)
    assert {"backbone", "method", "seed", "latent", "partner", "image_label", "text_purity"} <= set(table)


def test_thumbnails_of_your_own_are_taken_as_they_belong_to_rows(tmp_path):
    small_store = own_store(tmp_path / "store")
    thumbnail = np.arange(60, dtype=np.uint8)[:, None, None, None] * np.ones((1, 5, 7, 3), np.uint8)
    np.savez(tmp_path / "own.npz", thumbnail=thumbnail)
    shown = explorer.pictures(small_store, str(tmp_path / "own.npz"))
    assert shown.shape == (30, 5, 7, 3) and shown[:, 0, 0, 0].tolist() == items(small_store)["image"].tolist()
    for wrong in (thumbnail[:-1], thumbnail.astype(float), thumbnail[..., :1]):
        np.savez(tmp_path / "own.npz", thumbnail=wrong)
        with pytest.raises(ValueError, match=r"own.npz: thumbnail: .* found; uint8 \(60, height, width, 3\) is needed"):
            explorer.pictures(small_store, str(tmp_path / "own.npz"))
    np.savez(tmp_path / "own.npz", image=np.ones((60, 2)))
    assert explorer.pictures(small_store, str(tmp_path / "own.npz")) is None


def test_pictures_are_read_from_the_files_that_are_named(tmp_path):
    small_store = own_store(tmp_path / "store")
    (tmp_path / "there").mkdir()
    for row in range(60):
        Image.new("RGB", (80, 40), (row, 0, 0)).save(tmp_path / "there" / f"{row}.png")
    names = [f"there/{row}.png" for row in range(60)]
    for image_path in (np.array(names), np.array(names).astype("S")):
        np.savez(tmp_path / "own.npz", image_path=image_path)
        shown = explorer.pictures(small_store, str(tmp_path / "own.npz"))
        assert shown.shape == (30, 64, 64, 3)
        assert shown[:, 32, 32, 0].tolist() == items(small_store)["image"].tolist() and (shown[:, 0] == 233).all()
    np.savez(tmp_path / "own.npz", image_path=np.array(names)[:-1])
    with pytest.raises(ValueError, match=r"own.npz: image_path: .* found; text \(60,\) is needed"):
        explorer.pictures(small_store, str(tmp_path / "own.npz"))


def test_pictures_that_cannot_be_read_are_grey_and_counted(tmp_path):
    small_store = own_store(tmp_path / "store")
    rows = items(small_store)["image"].tolist()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text.png").write_text("no image")
    names = np.array(["0.png"] * 60, dtype="U20")
    names[rows[:4]] = ["pipe", "text.png", "gone.png", "a\nname"]
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(tmp_path / "0.png")
    np.savez(tmp_path / "own.npz", image_path=names)
    with pytest.warns(
        UserWarning, match=r"own.npz: image_path: 4 of 30 pictures cannot be read, such as 'pipe' \(not a"
    ):
        shown = explorer.pictures(small_store, str(tmp_path / "own.npz"))
    assert (shown[:4] == 233).all() and (shown[4:] == 40_000 >> 8).all()
    np.savez(tmp_path / "own.npz", image_path=np.array(["gone.png"] * 60))
    with pytest.raises(ValueError, match=r"own.npz: image_path: 30 of 30 pictures cannot be read"):
        explorer.pictures(small_store, str(tmp_path / "own.npz"))


def test_stores_that_hold_out_different_pairs_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XSAE_ROOT", str(tmp_path))
    stores = {"a": own_store(tmp_path / "a", caption="x"), "b": own_store(tmp_path / "b", caption="y")}
    with pytest.raises(ValueError, match="the stores of a, b hold out different pairs"):
        written("own", stores, views_of(stores["a"], "a"), None)
    assert not (tmp_path / "results").exists()


def test_each_modality_is_seen_beside_the_first(tmp_path):
    x = np.random.default_rng(0).standard_normal((60, 8))
    three = from_arrays(tmp_path / "store", image=x, text=x + 0.1, audio=x[::-1].copy() + x, held_out=0.5)
    found = views_of(three, "own")
    assert [settings["modality"] for settings, _ in found] == ["text", "audio"] * 2
    assert {"image_rate", "audio_rate"} <= set(found[1][1].matches) and not any(found[1][1].matches["audio_label"])
    assert [page["modality"] for page in (explorer._view(*entry, "image") for entry in found)] == ["text", "audio"] * 2


# --- in a browser ---


@pytest.mark.parametrize("width", [1280, 390])
def test_it_opens_from_the_disk_and_fits(visit, faults, page, width):
    opened = visit(page, width)
    opened.wait_for_selector("#sides .picture")
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    assert not faults(opened)
    assert opened.locator("#scatter circle[data-match]").count() == len(contents(page)["views"][0]["latent"])


def shown_items(opened):
    side = opened.locator("#sides section")
    pictures = side.nth(0).locator(".picture").evaluate_all("all => all.map(one => one.title)")
    return pictures, side.nth(1).locator("li span:first-of-type").all_text_contents()


def test_a_click_on_a_match_shows_its_pictures_and_captions(visit, page):
    opened, found = visit(page), contents(page)
    one_view = found["views"][0]
    opened.wait_for_selector("#sides .picture")
    for match in (3, 8):
        circle = opened.locator(f'#scatter circle[data-match="{match}"]')
        box = circle.bounding_box()
        opened.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        at = int(opened.locator("#matches").input_value())  # the nearest: marks may lie upon each other
        assert abs(one_view["correlation"][at] - one_view["correlation"][match]) < 0.02
        captions = [[found["captions"][item] for item in side[at]] for side in one_view["top"]]
        assert shown_items(opened) == tuple(captions)
        assert f"image latent {one_view['latent'][at]} ↔ text latent {one_view['partner'][at]}" == opened.inner_text(
            "#title"
        )


def test_the_keyboard_walks_through_matches(visit, page):
    opened, one_view = visit(page), contents(page)["views"][0]
    opened.wait_for_selector("#sides .picture")
    opened.focus("#matches")
    at = int(opened.locator("#matches").input_value())
    opened.keyboard.press("ArrowDown")
    assert opened.evaluate("location.hash").endswith(f"latent={one_view['latent'][at + 1]}")
    opened.click("#previous")
    assert f"image latent {one_view['latent'][at]} " in opened.inner_text("#title")


def test_the_slider_changes_the_neighbours(visit, page):
    opened, found = visit(page), contents(page)
    opened.wait_for_selector("#after .picture")
    steered = found["views"][0]["steered"][int(opened.locator("#matches").input_value())]
    for place, alpha in ((2, 2), (0, 0), (1, 0.5)):
        opened.locator("#alpha").fill(str(place))
        titles = opened.locator("#after .picture").evaluate_all("all => all.map(one => one.title)")
        assert titles == [found["captions"][item] for item in steered["after"][place]]
        assert f"α = {alpha} · preservation {steered['preservation'][place]:.2f}" in opened.inner_text("#pushed")
    assert steered["after"][0] != steered["after"][2]


def test_a_deep_link_opens_its_latent_and_one_that_is_not_there_says_so(visit, page):
    one_view = contents(page)["views"][3]
    opened = visit(page, fragment=f"#method=shared&seed=2&latent={one_view['latent'][5]}")
    opened.wait_for_selector("#sides .picture")
    assert opened.inner_text("#title").startswith(
        f"image latent {one_view['latent'][5]} ↔ text latent {one_view['partner'][5]}"
    )
    assert opened.locator("#method").input_value() == "shared" and opened.locator("#seed").input_value() == "2"
    opened.evaluate("location.hash = 'latent=99999'")
    opened.wait_for_function("document.getElementById('verdict').textContent.startsWith('Latent 99999 is not among')")


def test_search_and_brush_narrow_the_matches(visit, page):
    opened, one_view = visit(page), contents(page)["views"][0]
    opened.wait_for_selector("#sides .picture")
    every, label = len(one_view["latent"]), next(label for label in one_view["label"][0] if label)
    opened.fill("#search", label)
    texts = opened.locator("#matches option").all_text_contents()
    assert 0 < len(texts) < every and any(label in text for text in texts)
    opened.click("#clear")
    assert opened.locator("#matches option").count() == every
    box = opened.locator("#scatter").bounding_box()
    opened.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 5)
    opened.mouse.down()
    opened.mouse.move(box["x"] + box["width"] * 0.99, box["y"] + box["height"] * 0.88, steps=4)
    opened.mouse.up()
    places = opened.locator("#scatter circle[data-match]").evaluate_all(
        "all => all.map(one => +one.getAttribute('cx'))"
    )
    inside = sum(place >= 260 for place in places)
    assert opened.locator("#matches option").count() == inside and 0 < inside < every


def test_another_method_shows_the_same_concept_where_it_has_it(visit, page):
    opened, found = visit(page), contents(page)
    opened.wait_for_selector("#sides .picture")
    label = found["views"][0]["label"][0][int(opened.locator("#matches").input_value())]
    opened.select_option("#method", "shared")
    one_view = found["views"][2]
    at = int(opened.locator("#matches").input_value())
    known = [
        one_view["label"][0][match] for match in range(len(one_view["latent"])) if one_view["label"][1][match] == label
    ]
    assert one_view["label"][0][at] == label or label not in known


def test_text_of_the_data_is_never_markup(visit, tmp_path, monkeypatch):
    monkeypatch.setenv("XSAE_ROOT", str(tmp_path))
    small_store = own_store(tmp_path / "store", caption=HOSTILE)
    path = written("own", {HOSTILE: small_store}, views_of(small_store, HOSTILE), None)
    assert "taken" not in path.read_text()
    opened = visit(path, 390)
    opened.wait_for_selector("#sides li")
    assert HOSTILE in opened.locator("#sides li span").first.text_content()
    assert opened.title() == "Concept explorer: own" and not opened.locator("img").count()
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
    assert opened.locator("#after .said").count() == NEIGHBOURS
