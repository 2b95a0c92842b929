"""Image files in a zip archive, read without unpacking it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from frechet.errors import SourceError
from frechet.images.image import EncodedImage
from frechet.images.sources.files import (
    File,
    FileSource,
    count_unsupported,
    describe_contents,
    is_hidden,
    is_image,
    list_containers,
    open_zip,
    read_image,
)


class ZipSource(FileSource):
    """All image files in a zip archive, sorted by name."""

    def __init__(self, file: File) -> None:
        super().__init__(file)
        self.archive = open_zip(file)
        named = [info for info in self.archive.infolist() if info.filename]  # zipfile cuts a name at its first NUL
        infos = [info for info in named if not info.is_dir() and not is_hidden(info.filename)]
        names = sorted(info.filename for info in infos)
        self.members = sorted((info for info in infos if is_image(info.filename)), key=lambda info: info.filename)
        if not self.members:
            raise SourceError(f"{file} contains no images{describe_contents(names)}")
        self.unsupported, self.containers = count_unsupported(names), list_containers(names)

    def __len__(self) -> int:
        return len(self.members)

    def load(self, source_index: int) -> EncodedImage:
        with self.archive.open(self.members[source_index]) as member:
            return read_image(member)  # type: ignore[arg-type]

    def get_label(self, source_index: int) -> str:
        return f"{self.label}:{self.get_member_name(source_index)}"

    def get_member_name(self, source_index: int) -> str:
        return self.members[source_index].filename

    def fingerprints(self, source_indices: Sequence[int]) -> Iterator[str]:
        for source_index in source_indices:
            info = self.members[source_index]
            yield f"{info.filename} {info.file_size} {info.CRC}"
