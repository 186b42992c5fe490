"""The same kind of scene as a data set in every layout, with the class ids that it must give.

Objects are upright boxes with whole corners, which a polygon covers exactly.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image

from edgeunet.data.layouts import camvid, cityscapes, voc

Mask = npt.NDArray[np.uint8]
HEIGHT, WIDTH = 48, 64
NAMES = ("background", "cell", "wall")


@dataclass(frozen=True)
class Thing:
    """A box of a class: left, top, right, bottom in pixels, right and bottom outside it."""

    class_id: int
    box: tuple[int, int, int, int]

    @property
    def corners(self) -> list[list[int]]:
        left, top, right, bottom = self.box
        return [[left, top], [right, top], [right, bottom], [left, bottom]]

    @property
    def inside(self) -> tuple[slice, slice]:
        left, top, right, bottom = self.box
        return slice(top, bottom), slice(left, right)


@dataclass(frozen=True)
class Scene:
    """An image and its things, later ones on top, which are smaller too."""

    things: tuple[Thing, ...]
    image: npt.NDArray[np.uint8]
    mask: Mask


def scene(seed: int, classes: int = len(NAMES)) -> Scene:
    """A thing of each class on a grid; the last one lies on the first."""
    rng = np.random.default_rng(seed)
    cells = rng.permutation(24)[: classes - 1]
    things = []
    for class_id, cell in enumerate(cells, 1):
        row, column = divmod(int(cell), 6)
        left, top = 10 * column + int(rng.integers(3)), 12 * row + int(rng.integers(3))
        things.append(Thing(class_id, (left, top, left + 8, top + 9)))
    left, top, *_ = things[0].box
    things.append(Thing(classes - 1, (left + 2, top + 2, left + 5, top + 5)))
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for thing in things:
        mask[thing.inside] = thing.class_id
    colours = np.random.default_rng(1).integers(30, 220, (256, 3))
    image = colours[mask] + rng.normal(0, 8, (HEIGHT, WIDTH, 3))
    return Scene(tuple(things), np.clip(image, 0, 255).astype(np.uint8), mask)


def colour_of(name: str) -> tuple[int, int, int]:
    """A colour for each of `NAMES`."""
    return [(0, 0, 0), (200, 30, 40), (20, 90, 210)][NAMES.index(name)]


@dataclass
class Made:
    """A data set on disk. truth: class ids by the image's path, relative to the root."""

    root: Path
    truth: dict[str, Mask] = field(default_factory=dict)

    def image(self, name: str, made: Scene, truth: Mask | None = None) -> Path:
        """Write an image; its labels are those of the scene unless told."""
        self.truth[name] = made.mask if truth is None else truth
        return self.write(name, made.image[..., ::-1])

    def write(self, name: str, pixels: npt.NDArray[Any]) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), pixels)
        return path

    def text(self, name: str, content: str | Sequence[str]) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else "\n".join(content) + "\n")
        return path

    def json(self, name: str, content: object) -> Path:
        return self.text(name, json.dumps(content))

    def indices(self, name: str, ids: Mask) -> None:
        """A mask with VOC's palette."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = PIL.Image.fromarray(ids)
        image.putpalette([value for index in range(256) for value in voc.colour(index)])
        image.save(path)


def scenes(count: int = 6, classes: int = len(NAMES), start: int = 0) -> list[tuple[str, Scene]]:
    """Names and scenes."""
    return [(f"frame_{n}", scene(n, classes)) for n in range(start, start + count)]


SPLITS = {"train": scenes(4), "val": scenes(2, start=4)}


def make_carvana(root: Path) -> Made:
    made = Made(root)
    for car in range(4):
        for view in (1, 2):
            shown = scene(10 * car + view, 2)
            made.image(f"train/car{car}_{view:02}.jpg", shown)
            mask = PIL.Image.fromarray(shown.mask * 255).convert("1")
            (root / "train_masks").mkdir(exist_ok=True)
            mask.save(root / "train_masks" / f"car{car}_{view:02}_mask.gif")
    made.write("test/x_01.jpg", scene(99).image)
    return made


def make_milesial(root: Path) -> Made:
    made = Made(root)
    for name, shown in scenes():
        made.image(f"imgs/{name}.png", shown)
        made.write(f"masks/{name}.png", shown.mask)
    made.text("classes.txt", NAMES)
    return made


def make_voc(root: Path) -> Made:
    made = Made(root)
    for split, shown in {"train": (0, 1, 2, 3), "val": (4, 5)}.items():
        for name, each in ((f"2007_{n:06}", scene(n, 21)) for n in shown):
            ids = each.mask.copy()
            ids[0] = 255
            made.image(f"JPEGImages/{name}.jpg", each, ids)
            made.indices(f"SegmentationClass/{name}.png", ids)
        made.text(f"ImageSets/Segmentation/{split}.txt", [f"2007_{n:06}" for n in shown])
    made.text("ImageSets/Segmentation/trainval.txt", [f"2007_{n:06}" for n in range(6)])
    made.write("JPEGImages/2007_000099.jpg", scene(99).image)
    return made


def make_cvat_masks(root: Path) -> Made:
    """CVAT's "Segmentation mask 1.1": VOC's folders, colours, and classes in `labelmap.txt`."""
    made = Made(root)
    colours = np.array([colour_of(name) for name in NAMES], np.uint8)
    order = (1, 0, 2)  # the file need not begin with the background
    for name, each in scenes():
        truth = np.array([order.index(index) for index in range(3)], np.uint8)[each.mask]
        made.image(f"JPEGImages/{name}.png", each, truth)
        made.write(f"SegmentationClass/{name}.png", colours[each.mask][..., ::-1])
    lines = [f"{NAMES[n]}:{','.join(map(str, colours[n]))}::" for n in order]
    made.text("labelmap.txt", ["# label:color_rgb:parts:actions", *lines])
    made.text("ImageSets/Segmentation/default.txt", [name for name, _ in scenes()])
    return made


def make_cityscapes(root: Path) -> Made:
    made = Made(root)
    ids = np.array([label for label, _ in cityscapes.CLASSES.values()], np.uint8)
    for split, shown in {"train": (0, 1, 2), "val": (3, 4)}.items():
        for n in shown:
            each, city = scene(n, 19), ("ulm", "bonn")[n % 2]
            stored, truth = ids[each.mask], each.mask.copy()
            stored[0], truth[0] = 3, 255  # out of roi
            made.image(f"leftImg8bit/{split}/{city}/{city}_{n}_leftImg8bit.png", each, truth)
            made.write(f"gtFine/{split}/{city}/{city}_{n}_gtFine_labelIds.png", stored)
            made.write(f"gtFine/{split}/{city}/{city}_{n}_gtFine_color.png", each.image)
    made.write("leftImg8bit/test/rom/rom_0_leftImg8bit.png", scene(9, 19).image)
    return made


def coco_file(shown: Sequence[tuple[str, Scene]]) -> dict[str, Any]:
    """A file of COCO: polygons, run lengths of both kinds, ids with gaps, in a mixed order."""
    import pycocotools.mask

    images, annotations = [], []
    for number, (name, each) in enumerate(shown, 7):
        images.append({"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH})
        for kind, thing in enumerate(reversed(each.things)):
            inside = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
            inside[thing.inside] = 1
            packed = pycocotools.mask.encode(inside)
            flat = inside.ravel(order="F")
            runs = np.diff(
                np.flatnonzero(np.diff(np.concatenate([[0], flat, [2]])) != 0), prepend=0
            )
            left, top, right, bottom = thing.box
            segmentation: Any = [
                [[value for corner in thing.corners for value in corner]],
                {"counts": packed["counts"].decode(), "size": [HEIGHT, WIDTH]},
                {"counts": runs.tolist(), "size": [HEIGHT, WIDTH]},
            ][kind % 3]
            annotations.append(
                {
                    "id": 100 * number + kind,
                    "image_id": number,
                    "category_id": 10 * thing.class_id,
                    "segmentation": segmentation,
                    "bbox": [left, top, right - left, bottom - top],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": 10 * n, "name": NAMES[n], "supercategory": "x"} for n in (2, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def make_coco(root: Path) -> Made:
    made = Made(root)
    for split, shown in SPLITS.items():
        for name, each in shown:
            made.image(f"{split}2017/{name}.jpg", each)
        made.json(
            f"annotations/instances_{split}2017.json",
            coco_file([(f"{name}.jpg", each) for name, each in shown]),
        )
    made.json("annotations/captions_train2017.json", {"images": [], "annotations": []})
    return made


def make_coco_in_one(root: Path) -> Made:
    made = Made(root)
    for name, each in scenes():
        made.image(f"images/{name}.jpg", each)
    made.json("result.json", coco_file([(f"{name}.jpg", each) for name, each in scenes()]))
    return made


def labelme_file(image: str, each: Scene) -> dict[str, Any]:
    """A file of LabelMe with a shape of each kind that has an area."""
    shapes: list[dict[str, Any]] = []
    for number, thing in enumerate(each.things):
        left, top, right, bottom = thing.box
        shape: dict[str, Any] = {"label": NAMES[thing.class_id]}
        if number % 3 == 0:
            shape |= {"shape_type": "rectangle", "points": [[right, bottom], [left, top]]}
        elif number % 3 == 1:
            shape |= {"shape_type": "polygon", "points": thing.corners}
        else:
            piece = cv2.imencode(".png", np.full((bottom - top, right - left), 255, np.uint8))[1]
            text = base64.b64encode(piece.tobytes()).decode()
            points = [[left, top], [right - 1, bottom - 1]]
            shape |= {"shape_type": "mask", "points": points, "mask": text}
        shapes.append(shape)
    shapes.append({"label": "cell", "shape_type": "point", "points": [[1, 1]]})
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": image,
        "imageData": None,
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
    }


def make_labelme(root: Path) -> Made:
    made = Made(root)
    for name, each in scenes():
        made.image(f"{name}.jpg", each)
        made.json(f"{name}.json", labelme_file(f"{name}.jpg", each))
    made.write("unlabelled.jpg", scene(50).image)
    return made


def cvat_file(shown: Sequence[tuple[str, str, Scene]]) -> str:
    """`annotations.xml` of images (name, subset, scene), the things in a mixed order."""
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "<version>1.1</version>"]
    lines.append("<meta><project><labels>")
    for name in NAMES[1:]:
        code = "#{:02x}{:02x}{:02x}".format(*colour_of(name))
        lines.append(f"<label><name>{name}</name><color>{code}</color></label>")
    lines.append("</labels></project></meta>")
    for number, (name, subset, each) in enumerate(shown):
        size = f'width="{WIDTH}" height="{HEIGHT}"'
        lines.append(f'<image id="{number}" name="{name}" subset="{subset}" {size}>')
        for order, thing in reversed(list(enumerate(each.things))):
            left, top, right, bottom = thing.box
            common = f'label="{NAMES[thing.class_id]}" z_order="{order}"'
            if order % 3 == 0:
                corners = f'xtl="{left}" ytl="{top}" xbr="{right}" ybr="{bottom}"'
                lines.append(f"<box {common} {corners}></box>")
            elif order % 3 == 1:
                points = ";".join(f"{x}.0,{y}.0" for x, y in thing.corners)
                lines.append(f'<polygon {common} points="{points}"/>')
            else:
                width, height = right - left, bottom - top
                place = f'left="{left}" top="{top}" width="{width}" height="{height}"'
                lines.append(f'<mask {common} rle="0, {width * height}" {place}/>')
        lines.append('<points label="cell" points="1,1"/></image>')
    return "\n".join([*lines, "</annotations>"])


def make_cvat(root: Path) -> Made:
    made = Made(root)
    listed = []
    for split, shown in SPLITS.items():
        for name, each in shown:
            made.image(f"images/{split.title()}/{name}.png", each)
            listed.append((f"{name}.png", split.title(), each))
    made.text("annotations.xml", cvat_file(listed))
    return made


def yolo_lines(each: Scene) -> list[str]:
    """Lines of a label file, the small thing first."""
    return [
        " ".join(
            [
                str(thing.class_id - 1),
                *(f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in thing.corners),
            ]
        )
        for thing in reversed(each.things)
    ]


def make_yolo(root: Path) -> Made:
    made = Made(root)
    for split, shown in SPLITS.items():
        for name, each in shown:
            made.image(f"images/{split}/{name}.jpg", each)
            made.text(f"labels/{split}/{name}.txt", yolo_lines(each))
    lines = ["path: .", "train: images/train", "val: images/val", "test:", "names:"]
    made.text("data.yaml", [*lines, "  0: cell", "  1: wall"])
    return made


def make_yolo_roboflow(root: Path) -> Made:
    made = Made(root)
    for split, shown in SPLITS.items():
        folder = {"train": "train", "val": "valid"}[split]
        for name, each in shown:
            made.image(f"{folder}/images/{name}.jpg", each)
            made.text(f"{folder}/labels/{name}.txt", yolo_lines(each))
    lines = ["train: ../train/images", "val: ../valid/images", "test: ../test/images", "nc: 2"]
    made.text("data.yaml", [*lines, "names: ['cell', 'wall']"])
    return made


def make_nnunet(root: Path) -> Made:
    made = Made(root)
    for name, each in scenes():
        truth = each.mask.copy()
        truth[0] = 3
        made.image(f"imagesTr/{name}_0000.png", each, np.where(truth == 3, 255, truth))
        made.write(f"labelsTr/{name}.png", truth)
    made.write("imagesTs/x_0000.png", scene(9).image)
    labels = {"background": 0, "cell": 1, "wall": 2, "ignore": 3}
    made.json(
        "dataset.json",
        {"channel_names": {"0": "RGB"}, "labels": labels, "numTraining": 6, "file_ending": ".png"},
    )
    names = [name for name, _ in scenes()]
    made.json("splits_final.json", [{"train": names[2:], "val": names[:2]}])
    return made


def make_mmseg(root: Path) -> Made:
    made = Made(root)
    for split, shown in SPLITS.items():
        for name, each in shown:
            made.image(f"img_dir/{split}/{name}.jpg", each)
            made.write(f"ann_dir/{split}/{name}.png", each.mask)
    made.text("classes.txt", NAMES)
    return made


def make_ade(root: Path) -> Made:
    """ADE20K's folders, with three classes from value 1, and 0 for what does not count."""
    made = Made(root)
    for folder, split in {"training": "train", "validation": "val"}.items():
        for name, each in SPLITS[split]:
            stored, truth = each.mask + 1, each.mask.copy()
            stored[0], truth[0] = 0, 255
            made.image(f"images/{folder}/{name}.jpg", each, truth)
            made.write(f"annotations/{folder}/{name}.png", stored)
    rows = [f"{n}\t0.1\t10\t1\t0\t{name}, also" for n, name in enumerate(NAMES, 1)]
    made.text("objectInfo150.txt", ["Idx\tRatio\tTrain\tVal\tStuff\tName", *rows])
    return made


def make_segnet(root: Path) -> Made:
    made = Made(root)
    for split, shown in {"train": (0, 1, 2, 3), "val": (4, 5), "test": (6,)}.items():
        for n in shown:
            each = scene(n, len(camvid.SEGNET))
            stored = each.mask.copy()
            stored[0] = 11
            made.image(f"{split}/{n:03}.png", each, np.where(stored == 11, 255, stored))
            made.write(f"{split}annot/{n:03}.png", stored)
    made.text("train.txt", ["/SegNet/CamVid/train/000.png /SegNet/CamVid/trainannot/000.png"])
    return made


def make_fastai(root: Path) -> Made:
    made = Made(root)
    codes = ("background", "Void", "cell", "wall")
    for name, each in scenes():
        stored = np.array([0, 2, 3], np.uint8)[each.mask]
        stored[0] = 1
        truth = each.mask.copy()
        truth[0] = 255
        made.image(f"images/{name}.png", each, truth)
        made.write(f"labels/{name}_P.png", stored)
    made.text("codes.txt", codes)
    made.text("valid.txt", ["frame_1.png", "frame_4.png"])
    return made


def make_kaggle_camvid(root: Path) -> Made:
    made = Made(root)
    colours = np.array([*(colour_of(name) for name in NAMES), (7, 7, 7)], np.uint8)
    for split, shown in SPLITS.items():
        for name, each in shown:
            stored = each.mask.copy()
            stored[0] = 3
            made.image(f"{split}/{name}.png", each, np.where(stored == 3, 255, stored))
            made.write(f"{split}_labels/{name}_L.png", colours[stored][..., ::-1])
    rows = [f"{name},{','.join(map(str, colours[n]))}" for n, name in enumerate((*NAMES, "Void"))]
    made.text("class_dict.csv", ["name,r,g,b", *rows])
    return made


def make_roboflow(root: Path) -> Made:
    made = Made(root)
    for split, shown in SPLITS.items():
        folder = {"train": "train", "val": "valid"}[split]
        for name, each in shown:
            made.image(f"{folder}/{name}_jpg.rf.01.jpg", each)
            made.write(f"{folder}/{name}_jpg.rf.01_mask.png", each.mask)
        rows = [f"{n}, {name}" for n, name in enumerate(NAMES)]
        made.text(f"{folder}/_classes.csv", ["Pixel Value, Class", *rows])
    return made


def make_roboflow_coco(root: Path) -> Made:
    made = Made(root)
    for split, shown in SPLITS.items():
        folder = {"train": "train", "val": "valid"}[split]
        for name, each in shown:
            made.image(f"{folder}/{name}.jpg", each)
        content = coco_file([(f"{name}.jpg", each) for name, each in shown])
        heading = {"id": 0, "name": "x", "supercategory": "none"}
        content["categories"] = [heading, *content["categories"][::-1]]
        made.json(f"{folder}/_annotations.coco.json", content)
    return made


ELEVEN: dict[str, Callable[[Path], Made]] = {
    "camvid": make_segnet,
    "carvana": make_carvana,
    "cityscapes": make_cityscapes,
    "coco": make_coco,
    "cvat": make_cvat,
    "labelme": make_labelme,
    "mmseg": make_mmseg,
    "nnunet": make_nnunet,
    "roboflow": make_roboflow,
    "voc": make_voc,
    "yolo-seg": make_yolo,
}
"""A data set of each layout."""

FORMS: dict[str, tuple[str, Callable[[Path], Made]]] = {
    **{name: (name, make) for name, make in ELEVEN.items()},
    "carvana as milesial's": ("carvana", make_milesial),
    "voc from CVAT": ("voc", make_cvat_masks),
    "coco in one file": ("coco", make_coco_in_one),
    "yolo-seg from Roboflow": ("yolo-seg", make_yolo_roboflow),
    "mmseg as ADE20K": ("mmseg", make_ade),
    "camvid from fast.ai": ("camvid", make_fastai),
    "camvid from Kaggle": ("camvid", make_kaggle_camvid),
    "roboflow with polygons": ("roboflow", make_roboflow_coco),
}
"""The layout and a data set of each of its forms."""
