"""What holds for every transform, ours and a user's own: the call, the inputs, chance, printing, pickling, batches."""

from __future__ import annotations

import pickle

import pytest
import torch

from segkit.transforms import (
    CenterCrop,
    Compose,
    GeometricTransform,
    Geometry,
    Normalize,
    RandomAffine,
    RandomCrop,
    Resize,
    ToTensor,
    Transform,
    _run,
    functional,
)
from transforms_table import CLASSES, MOVING, TRANSFORMS


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def picture(channels=3, dtype=torch.float32):
    image = torch.rand(channels, 23, 27, generator=seeded()) * (1 if dtype.is_floating_point else 200)
    return image.to(dtype), torch.randint(5, (23, 27), generator=seeded(1))


def test_every_transform_of_the_room_stands_in_the_table_of_the_laws():
    """What is missing is made in tests/transforms_table.py: its defaults alone do not make it."""
    assert set(CLASSES) - set(TRANSFORMS) == set()
    assert {"RandomAffine", "ElasticDeform", "HorizontalFlip", "GridCrop"} <= set(MOVING)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_call_gives_back_what_it_was_given_and_leaves_its_inputs_alone(name):
    transform = TRANSFORMS[name]
    image, mask = picture()
    kept = image.clone(), mask.clone()
    for seed in range(3):
        moved, labels = transform(image, mask, generator=seeded(seed))
        again, _ = transform(image, mask, generator=seeded(seed))
        assert torch.equal(moved, again)
        assert torch.equal(transform(image, generator=seeded(seed)), moved)
        assert moved.dtype == image.dtype
        assert labels.dtype == mask.dtype
        assert moved.shape[-2:] == labels.shape[-2:]
        assert set(labels.unique().tolist()) <= {0, 1, 2, 3, 4, 255}
    assert torch.equal(image, kept[0])
    assert torch.equal(mask, kept[1])


@pytest.mark.parametrize("name", TRANSFORMS)
def test_it_pickles_and_shows_what_it_was_made_with(name):
    transform = TRANSFORMS[name]
    assert repr(pickle.loads(pickle.dumps(transform))) == repr(transform)
    assert repr(transform).startswith(f"{name}(")


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_size_or_a_focus_that_nothing_takes_is_refused(name):
    transform = TRANSFORMS[name]
    image, mask = picture()
    for argument, takes, remedy in (
        ("size", transform.sized, "RandomCrop or Resize"),
        ("focus_class", transform.focused, "RandomCrop"),
    ):
        if not takes:
            with pytest.raises(
                ValueError, match=rf"{name}: `{argument}` must (not be given|have a member).* Add {remedy}"
            ):
                transform(image, mask, **{argument: 9})


class Transpose(GeometricTransform):
    """Rows and columns exchanged, as somebody outside of the library writes it."""

    def draw(self, source, *, generator=None):
        turned = Geometry.turning(source, 1)
        return turned.then(Geometry.flipping(turned.size, vertical=True))


class Zoom(GeometricTransform):
    """The middle, at the size that is asked for: an own sized transform."""

    sized = True

    def __init__(self, size):
        self.size = (size, size)

    def draw(self, source, *, generator=None, size=None):
        middle = Geometry.window(source, source[0] // 4, source[1] // 4, (source[0] // 2, source[1] // 2))
        return middle.then(Geometry.scaling(middle.size, self.wanted(size)))


class Negative(Transform):
    """An own transform of values."""

    def __init__(self, top=1.0):
        self.top = top

    def apply(self, image, mask, generator):
        return self.top - image, mask


def test_a_geometric_transform_of_a_users_own_joins_the_one_resampling(monkeypatch):
    calls = []
    resample = _run.resample
    monkeypatch.setattr(_run, "resample", lambda *args, **kw: calls.append(1) or resample(*args, **kw))
    image, mask = picture()
    row = Compose([RandomAffine(20), Transpose(), Zoom(30), RandomCrop(20)])
    moved, labels = row(image, mask, generator=seeded(2))
    assert len(calls) == 1
    generator = seeded(2)
    joined = row.transforms[0].draw((23, 27), generator=generator)
    joined = joined.then(Transpose().draw(joined.size)).then(Zoom(30).draw((27, 23)))
    joined = joined.then(row.transforms[3].draw((30, 30), generator=generator))
    expected = functional.apply_geometry(image, mask, geometry=joined)
    assert torch.equal(moved, expected[0])
    assert torch.equal(labels, expected[1])


def test_an_own_transform_is_called_printed_and_pickled_as_ours_are():
    image, mask = picture()
    moved, labels = Transpose()(image, mask)
    assert torch.equal(moved, image.transpose(-1, -2))
    assert torch.equal(labels, mask.T)
    assert Zoom(9)(image, size=(5, 6)).shape == (3, 5, 6)
    assert Compose([Transpose(), Zoom(9)])(image, size=7).shape == (3, 7, 7)
    assert torch.equal(Compose([Negative(), Transpose()])(image, mask)[0], (1 - image).transpose(-1, -2))
    assert repr(Compose([Negative(2.0), Zoom(3)])) == "Compose(transforms=(Negative(top=2.0), Zoom(size=(3, 3))))"
    assert torch.equal(pickle.loads(pickle.dumps(Transpose()))(image), moved)
    with pytest.raises(ValueError, match="Negative: `size` must not be given"):
        Negative()(image, size=3)
    for empty, hook in ((Transform, "implement apply"), (GeometricTransform, "implement draw")):
        with pytest.raises(TypeError, match=f"{empty.__name__} does not say .* {hook}"):
            empty()(image)


def test_the_maps_that_an_own_transform_is_made_of_do_what_they_say():
    image = torch.arange(12.0).reshape(1, 3, 4)

    def moved(geometry):
        return functional.apply_geometry(image, geometry=geometry)

    assert torch.equal(moved(Geometry.identity((3, 4))), image)
    assert torch.equal(moved(Geometry.window((3, 4), 1, 1, (2, 2))), image[:, 1:, 1:3])
    assert torch.equal(moved(Geometry.scaling((3, 4), (6, 5))), Resize((6, 5))(image))
    assert torch.equal(moved(Geometry.flipping((3, 4), horizontal=True)), image.flip(-1))
    assert torch.equal(moved(Geometry.turning((3, 4), 1)), image.rot90(1, (-2, -1)))
    assert torch.equal(moved(Geometry.affine((3, 4), translate=(0, 1)))[0, :, 1:], image[0, :, :-1])
    right = torch.zeros(2, 6, 7, dtype=torch.float64)
    right[0] = 1.0  # every pixel looks one column to the right
    assert torch.allclose(moved(Geometry.bending((3, 4), right, (1, 1)))[0, :, :-1], image[0, :, 1:])
    assert CenterCrop(2).draw((4, 4)).stages == Geometry.window((4, 4), 1, 1, (2, 2)).stages
    assert ToTensor().sized is Normalize(0.5, 0.5).sized is False
