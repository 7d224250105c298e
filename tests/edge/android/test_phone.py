"""What a phone is told and called. Starting, pushing, pulling and every failure of them: test_device.py."""

import pytest

from edge.android.adb import Adb
from edge.android.phone import Clock, Phone
from tests.edge.scripted_adb import SERIAL, ScriptedPhone


@pytest.fixture
def phone(tmp_path):
    return ScriptedPhone(tmp_path, {"models": []})


def test_words_reach_the_phone_as_they_are(phone):
    found = Adb(str(phone.adb), SERIAL).shell("getprop", "a b'c\"; reboot $(x) `y` & \\")
    assert found.code == 0
    assert phone.calls[-1] == ["-s", SERIAL, "shell", "getprop 'a b'\"'\"'c\"; reboot $(x) `y` & \\'"]


@pytest.mark.parametrize(("manufacturer", "model"), [("", ""), ("../..", "/etc/passwd"), ("a" * 300, "ä ö"), ("Google", "Pixel 7\n")])
def test_names_are_of_safe_characters(phone, manufacturer, model):
    phone.does(properties={"ro.product.manufacturer": manufacturer, "ro.product.model": model})
    name = Phone(Adb(str(phone.adb), "192.168.0.7:5555"), Clock()).name()
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert 10 < len(name) < 80
    assert not name.startswith("-")
