"""Where the makers read and write. Everything under WORK can be deleted and made again."""

from pathlib import Path

HERE = Path(__file__).resolve().parent
WORK = HERE / "scratch"
PICTURES = HERE / "pictures"
ASSETS = HERE.parent / "src" / "brushwork" / "assets"
FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
