import io
import json
import os
import tarfile

import numpy as np
import pytest
from PIL import Image

from xsae.data import drawing, scenes
from xsae.data.coco import mentions
from xsae.data.samples import PART, Sample, Skipped
from xsae.data.sources import open_source


def everything(source):
    return [sample for part in range(source.n_parts) for sample in source.part(part)]


def picture(row, mode="RGB", file_format="JPEG"):
    file = io.BytesIO()
    Image.fromarray(drawing.render(scenes.sample(row + 1, 5), np.array([row]))[0]).convert(mode).save(file, file_format)
    return file.getvalue()


def tar(path, members):
    with tarfile.open(path, "w") as shard:
        for name, data in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            shard.addfile(about, io.BytesIO(data))
    return path


@pytest.fixture
def coco(tmp_path):
    """MS-COCO's layout with four images, one of each of Karpathy's splits, two of COCO's categories."""
    images = []
    for number, split in enumerate(("train", "restval", "val", "test")):
        name = f"COCO_val2014_{number:012d}.jpg"
        sentences = [{"raw": "Two dogs on a hot dog stand."}, {"raw": "A doghouse."}]
        images.append(
            {"filepath": "val2014", "filename": name, "split": split, "cocoid": 70 + number, "sentences": sentences}
        )
        (tmp_path / "val2014").mkdir(exist_ok=True)
        (tmp_path / "val2014" / name).write_bytes(picture(number))
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": images, "dataset": "coco"}))
    (tmp_path / "annotations").mkdir()
    categories = [{"id": 18, "name": "dog"}, {"id": 58, "name": "hot dog"}]
    annotations = [
        {"image_id": 70, "category_id": 18},
        {"image_id": 70, "category_id": 18},
        {"image_id": 73, "category_id": 58},
    ]
    about = {"categories": categories, "annotations": annotations}
    (tmp_path / "annotations" / "instances_val2014.json").write_text(json.dumps(about))
    return tmp_path


def test_coco_has_karpathys_splits_the_objects_and_what_captions_name(coco):
    found = everything(open_source(f"coco:{coco}"))
    assert [sample.split for sample in found] == ["train", "train", "test"]
    assert [sample.concepts for sample in found] == [("object:dog",), (), ("object:hot dog",)]
    assert found[0].captions == ("Two dogs on a hot dog stand.", "A doghouse.")
    assert found[0].mentions == (("object:dog", "object:hot dog"), ())
    assert Image.open(found[0].image).size == (drawing.IMAGE_SIZE, drawing.IMAGE_SIZE)
    assert [sample.key for sample in everything(open_source(f"coco:{coco}@test"))] == ["COCO_val2014_000000000003.jpg"]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_folder_holds_out_a_fifth_of_its_images_with_all_their_captions(tmp_path, suffix):
    rows = [(f"images/{row}.png", f"scene {row}") for row in range(20)] + [("images/3.png", "once more")]
    if suffix == "csv":
        text = "file_name,caption\n" + "".join(f"{name},{caption}\n" for name, caption in rows)
    else:
        text = "".join(json.dumps({"file_name": name, "captions": [caption]}) + "\n" for name, caption in rows)
    (tmp_path / f"own.{suffix}").write_text(text)
    found = everything(open_source(f"folder:{tmp_path / f'own.{suffix}'}"))
    assert [sample.key for sample in found] == [f"images/{row}.png" for row in range(20)]
    assert found[3].captions == ("scene 3", "once more")
    assert sum(sample.split == "test" for sample in found) == 4
    assert found[0].image == str(tmp_path / "images/0.png")
    assert {sample.split for sample in everything(open_source(f"folder:{tmp_path / f'own.{suffix}'}@train"))} == {
        "train"
    }


def test_a_folders_own_splits_are_kept_and_selected(tmp_path):
    (tmp_path / "own.csv").write_text("file_name,caption,split\na.png,one,test\nb.png,two,train\n")
    assert [sample.split for sample in everything(open_source(f"folder:{tmp_path / 'own.csv'}"))] == ["test", "train"]
    assert [sample.key for sample in everything(open_source(f"folder:{tmp_path / 'own.csv'}@test"))] == ["a.png"]
    (tmp_path / "own.csv").write_text("file_name,caption,split\na.png,one,val\n")
    with pytest.raises(ValueError, match="split 'val' is unknown; one of train, test"):
        open_source(f"folder:{tmp_path / 'own.csv'}")


def test_shards_may_mix_file_types_and_are_read_in_order(tmp_path):
    tar(
        tmp_path / "0.tar",
        {"a.jpg": picture(0), "a.txt": b"one", "a.json": b"{}", "b.png": picture(1), "b.txt": b"two"},
    )
    tar(tmp_path / "1.tar", {"c.jpg": b"", "c.txt": b"", "d.txt": b"no image"})
    source = open_source(f"webdataset:{tmp_path}/*.tar")
    assert source.n_parts == 2
    assert list(source.part(0)) == [
        Sample("a", picture(0), ("one",), "train"),
        Sample("b", picture(1), ("two",), "train"),
    ]
    assert list(source.part(1)) == [Sample("c", b"", ("",), "train"), Skipped("d", "0 images in the sample")]
    assert everything(open_source(f"webdataset:{tmp_path}/0.tar@test"))[0].split == "test"


def test_a_shard_that_ends_too_early_gives_what_it_holds_and_says_where_it_ended(tmp_path):
    path = tar(tmp_path / "0.tar", {"a.jpg": picture(0), "a.txt": b"one", "b.jpg": picture(1), "b.txt": b"two"})
    with tarfile.open(path) as shard:
        middle = shard.getmember("b.jpg").offset_data + 100
    path.write_bytes(path.read_bytes()[:middle])
    *samples, last = open_source(f"webdataset:{path}").part(0)
    assert [sample.key for sample in samples] == ["a"]
    assert last.key == "shard 0 after a" and last.reason.startswith("unreadable")


def test_imagenets_folders_become_held_out_images_of_named_classes(tmp_path):
    for synset, name in (("n01443537", "x.png"), ("n01440764", "y.png")):
        (tmp_path / synset).mkdir()
        (tmp_path / synset / name).write_bytes(picture(0, file_format="PNG"))
    tench, goldfish = everything(open_source(f"imagenet:{tmp_path}"))
    assert (tench.key, tench.captions, tench.concepts) == (
        "n01440764/y.png",
        ("a photo of a tench",),
        ("class:n01440764",),
    )
    assert goldfish.captions == ("a photo of a goldfish",) and goldfish.split == "test"


def test_scenes_are_the_embedded_worlds_and_parts_make_the_whole():
    source = open_source(f"scenes:{PART}")
    assert [len(list(source.part(part))) for part in range(source.n_parts)] == [PART, PART // 10]
    last = list(source.part(1))[-1]
    assert last.split == "test" and len(last.captions) == 5 and last.concepts
    assert np.asarray(Image.open(io.BytesIO(last.image))).shape == (64, 64, 3)
    assert last == list(source.part(1))[-1]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cc4m", "'cc4m' is unknown; KIND:WHERE"),
        ("folder:/absent/own.csv", "a .csv or .jsonl file with the columns `file_name` and `caption` is needed"),
        ("coco:/absent", "Karpathy's split, is not there"),
        ("imagenet:/absent", "imagenet:/absent"),
        ("webdataset:/absent/*.tar", "no shards"),
        ("scenes:few", "a number of training scenes"),
    ],
)
def test_a_source_that_is_none_is_refused_in_one_line(spec, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        open_source(spec)
    assert "\n" not in str(error.value)


def test_names_are_whole_words():
    assert mentions("A Cat and two cats, no catfish.", ("object:cat", "object:fish")) == ("object:cat",)
    assert mentions("a hot dog", ("object:dog", "object:hot dog")) == ("object:hot dog",)


# --- sources that mean harm, or were harmed ---


def test_names_of_digits_dates_and_words_of_pandas_stay_as_they_are(tmp_path):
    (tmp_path / "own.csv").write_text("file_name,caption\n007,2020\n1e5,NA\n2024-01-01,true\n")
    lines = [{"file_name": "007", "caption": "2020"}, {"file_name": "1e5", "caption": "2024-01-01T00:00:00"}]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = everything(open_source(f"folder:{tmp_path}/own.csv@train"))
    assert [(sample.key, sample.captions) for sample in found] == [
        ("007", ("2020",)),
        ("1e5", ("NA",)),
        ("2024-01-01", ("true",)),
    ]
    found = everything(open_source(f"folder:{tmp_path}/own.jsonl@train"))
    assert [(sample.key, sample.captions) for sample in found] == [
        ("007", ("2020",)),
        ("1e5", ("2024-01-01T00:00:00",)),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("own.csv", b'file_name,caption\na,b,c,d\ne,f,g\n"', "not readable"),
        ("own.csv", b"", "not readable"),
        ("own.csv", b"file_name,caption\n\xff\xfe,b\n", "not readable"),
        ("own.csv", b"file_name,caption\n,no name\n", "column `file_name` must hold a name in every row"),
        ("own.csv", b"file_name,caption,split\na.png,x,train\na.png,y,test\n", "a.png is in two splits"),
        ("own.jsonl", b'{"file_name": "a"', "not readable"),
        ("own.jsonl", b"[1, 2]\n", "a line holds"),
        ("own.jsonl", b"[" * 100_000, "not readable"),
        ("own.jsonl", b'{"file_name": 7, "caption": "x"}\n', "column `file_name` must hold a name in every row"),
        ("own.jsonl", b'{"file_name": null, "caption": "x"}\n', "column `file_name` must hold a name"),
        ("own.jsonl", b'{"caption": "x"}\n', "column `file_name` is missing"),
        ("own.jsonl", b"", "column `file_name` is missing"),
        ("own.jsonl", b'{"file_name": "a", "caption": "x", "split": 3}\n', "split '3' is unknown"),
        ("own.jsonl", b'{"file_name": "a", "caption": "x", "split": null}\n', "split 'None' is unknown"),
    ],
)
def test_a_list_that_is_none_is_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"folder:.*{message}") as error:
        open_source(f"folder:{tmp_path / name}")
    assert "\n" not in str(error.value)


def test_missing_captions_are_empty_and_so_counted(tmp_path):
    lines = [{"file_name": "a", "captions": ["x", None]}, {"file_name": "b", "captions": None}, {"file_name": "c"}]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = everything(open_source(f"folder:{tmp_path}/own.jsonl@train"))
    assert [sample.captions for sample in found] == [("x", ""), ("",), ("",)]


def without(key):
    return lambda image: image.pop(key)


@pytest.mark.parametrize(
    "harm",
    [without("split"), without("sentences"), without("filename"), without("filepath"),
     lambda image: image.update(split=None), lambda image: image.update(sentences="one"),
     lambda image: image.update(sentences=["one"])],
)  # fmt: skip
def test_an_entry_of_coco_that_says_too_little_is_left_out_and_counted(coco, harm):
    about = json.loads((coco / "dataset_coco.json").read_text())
    harm(about["images"][0])
    (coco / "dataset_coco.json").write_text(json.dumps(about))
    first, *others = everything(open_source(f"coco:{coco}"))
    assert isinstance(first, Skipped) and first.reason == "no split, file name or sentences"
    assert [sample.split for sample in others] == ["train", "test"]


def test_null_captions_and_unknown_ids_of_coco_are_none(coco):
    about = json.loads((coco / "dataset_coco.json").read_text())
    about["images"][0]["sentences"][0]["raw"] = None
    del about["images"][0]["sentences"][1]["raw"], about["images"][0]["cocoid"]
    (coco / "dataset_coco.json").write_text(json.dumps(about))
    first, *_ = everything(open_source(f"coco:{coco}"))
    assert first.captions == ("", "") and first.concepts == () and first.mentions == ((), ())


@pytest.mark.parametrize("content", ["[]", "{}", '{"images": 3}', "null", "[" * 100_000, b"\xff\xfe{"])
def test_what_is_no_split_of_coco_is_one_line(coco, content):
    data = content if isinstance(content, bytes) else content.encode()
    (coco / "dataset_coco.json").write_bytes(data)
    with pytest.raises(FileNotFoundError, match="Karpathy's split, is not there or not readable") as error:
        open_source(f"coco:{coco}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["[]", "{}", '{"categories": [], "annotations": [{}]}', "nonsense", "null"])
def test_what_are_no_instances_of_coco_is_one_line(coco, content):
    (coco / "annotations" / "instances_val2014.json").write_text(content)
    with pytest.raises(ValueError, match="annotations: not COCO's instances") as error:
        open_source(f"coco:{coco}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["dataset_coco.json", "annotations/instances_val2014.json"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(coco, name):
    (coco / name).unlink()
    os.mkfifo(coco / name)
    with pytest.raises(FileNotFoundError):
        open_source(f"coco:{coco}")


def test_a_caption_or_member_that_cannot_be_decoded_costs_its_sample_alone(tmp_path):
    members = {"a.jpg": b"1", "a.txt": b"\xff\xfe", "b.jpg": b"2", "b.txt": "größe".encode(), "b.cls": b"no number"}
    tar(tmp_path / "0.tar", members | {"b.json": b"{", "c.jpg": b"3", "c.txt": b"three", "c.npy": b"no array"})
    assert list(open_source(f"webdataset:{tmp_path}/0.tar").part(0)) == [
        Skipped("a", "caption is not UTF-8"),
        Sample("b", b"2", ("größe",), "train"),
        Sample("c", b"3", ("three",), "train"),
    ]
