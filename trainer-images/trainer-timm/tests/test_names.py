"""Names of files in archives, as tools in Korea, Japan, China and Europe write them, and their correct decoding."""

import unicodedata
from pathlib import PurePosixPath

import pytest

from dataset import decoding, names
from dataset.report import Report
from utils import DatasetInvalidError

KOREAN = ["고양이 강아지", "정상 불량", "사과 바나나 포도", "컵 칼", "철 차", "꽃 나무", "학습 검증", "불량품 양품"]
KOREAN += ["눈 코 입", "말 소 양", "균열 정상", "참치", "새_폴더 사진1", "스크린샷", "녹슨_볼트 새_볼트", "왼쪽 오른쪽"]
JAPANESE = [
    "猫 犬",
    "ソファ ソース 机",
    "りんご みかん",
    "正常 異常",
    "良品 不良品",
    "トマト キュウリ",
    "表 裏",
    "能 十",
]
JAPANESE += ["新しいフォルダー", "写真1 写真2", "右 左", "傷あり 傷なし", "桜 梅", "山 川", "白 黒", "春 夏 秋 冬"]
CHINESE = [
    "猫 狗",
    "苹果 香蕉",
    "正常 缺陷",
    "合格 不合格",
    "训练 验证",
    "男 女",
    "山 河",
    "口罩 未戴口罩",
    "乗客 螺丝",
]
CHINESE += ["新建文件夹 图片", "前 后", "划痕 污渍", "裂纹", "老虎 狮子", "红 绿 蓝", "微信图片_20240501"]
TAIWANESE = ["貓 狗", "蘋果 香蕉", "正常 異常", "訓練 驗證", "汽車 卡車", "男 女", "良品 瑕疵品", "西瓜", "刮痕 汙漬"]
WESTERN = ["Äpfel Bäume", "café thé", "niño niña", "Größe", "forêt été", "coração limão", "Müll Glas", "naïve"]
ANSI = ["café thé", "Größe", "Bäume Äpfel", "niño niña", "forêt été", "Müll Glas", "señal", "Straße Fußgänger"]
RUSSIAN = ["кошка собака", "Новая_папка", "брак норма"]
OF_ENCODINGS = {
    "cp949": KOREAN,
    "cp932": JAPANESE,
    "gb18030": CHINESE,
    "big5": TAIWANESE,
    "cp850": [*WESTERN, "20°C 30°C"],
    "cp1252": ANSI,
    "cp866": RUSSIAN,
}


def stored(words: str, encoding: str) -> list[bytes]:
    """Return the names of two images of each class, as a zip holds them without a mark of their encoding."""
    return [f"train/{word}/{number}.jpg".encode(encoding) for word in words.split() for number in range(2)]


@pytest.mark.parametrize(
    ("encoding", "words"),
    [(encoding, words) for encoding, groups in OF_ENCODINGS.items() for words in groups],
)
def test_the_encoding_of_short_names_is_detected_with_a_warning(encoding: str, words: str) -> None:
    report = Report()

    decoded = decoding.decoded(stored(words, encoding), "", report)

    assert decoded == [name.decode(encoding) for name in stored(words, encoding)]
    assert f"({encoding}): " in report.guesses[0]["message"]
    assert words.split(maxsplit=1)[0] in report.guesses[0]["message"]


@pytest.mark.parametrize("words", [words for groups in OF_ENCODINGS.values() for words in groups])
def test_utf8_without_its_mark_is_no_guess(words: str) -> None:
    report = Report()

    assert decoding.decoded(stored(words, "utf-8"), "", report) == [name.decode() for name in stored(words, "utf-8")]
    assert not report.guesses


def test_names_of_two_tools_in_one_archive_are_read_each_in_its_own() -> None:
    raw = [*stored("사진 그림", "cp949"), *stored("사진 그림", "utf-8"), b"data.yaml"]

    decoded = decoding.decoded(raw, "", Report())

    assert decoded == [*(name.decode() for name in stored("사진 그림", "utf-8")), *decoded[:4], "data.yaml"]


def test_two_plausible_readings_are_refused_and_the_setting_decides() -> None:
    raw = stored("番茄 黄瓜", "gb18030")

    with pytest.raises(DatasetInvalidError) as refusal:
        decoding.decoded(raw, "", Report())
    for words in ("番茄, 黄瓜 (gb18030)", "(cp949)", "DATASET_ENCODING"):
        assert words in str(refusal.value)
    assert decoding.decoded(raw, "gb18030", Report())[0] == "train/番茄/0.jpg"
    with pytest.raises(DatasetInvalidError, match="DATASET_ENCODING=utf-8"):
        decoding.decoded(raw, "utf-8", Report())


def test_names_in_no_known_encoding_stay_distinct_with_a_warning() -> None:
    report = Report()

    decoded = decoding.decoded([b"\xdb\xdb\xff/1.jpg", b"\xdb\xdb\xfe/1.jpg"], "", report)

    assert len(set(decoded)) == 2
    assert "unknown encoding" in report.guesses[0]["message"]


@pytest.mark.parametrize(
    "name",
    [
        "train/._0.jpg",
        "__MACOSX/train/0.jpg",
        "train/.ipynb_checkpoints/0.jpg",
        "train/cat/@eaDir/0.jpg/SYNOPHOTO_THUMB_XL.jpg",
        "#recycle/0.jpg",
        "$RECYCLE.BIN/0.jpg",
        ".git/config",
        "train/Thumbs.db",
        "train/cat/desktop.ini",
        ".DS_Store",
    ],
)
def test_files_of_operating_systems_and_tools_are_ignored(name: str) -> None:
    assert names.is_ignored(name)


@pytest.mark.parametrize("name", ["train/cat.1/0.jpg", "a..b.jpg", "macosx/1.jpg", "@home/1.jpg"])
def test_other_names_are_not_ignored(name: str) -> None:
    assert not names.is_ignored(name)


def test_names_are_in_one_normal_form_with_slashes() -> None:
    decomposed = unicodedata.normalize("NFD", "train\\사진\\é.jpg")

    assert names.checked_path(decomposed) == "train/사진/é.jpg"


def test_a_long_name_is_shortened_and_still_matches_its_label() -> None:
    long = "가" * 100
    given = (f"images/{long}.jpg", f"labels/{long}.txt", f"images/{long}나.jpg")
    image, label, other = map(PurePosixPath, map(names.checked_path, given))

    assert image.stem == label.stem != other.stem
    assert image.suffix == ".jpg"
    assert all(len(path.name.encode()) <= 255 for path in (image, label, other))


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("../x.jpg", "leads outside"),
        ("a/..\\..\\x.jpg", "leads outside"),
        ("/etc/x.jpg", "absolute"),
        ("C:\\x.jpg", "absolute"),
        ("a\nb.jpg", "control characters"),
        ("a\x00b.jpg", "control characters"),
        ("d/" * 600 + "x.jpg", "too long"),
        ("", "without a name"),
    ],
)
def test_dangerous_names_are_refused(name: str, named: str) -> None:
    with pytest.raises(DatasetInvalidError, match=named):
        names.checked_path(name)
