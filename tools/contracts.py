"""Our contracts as compiled descriptors, with their options and comments ready to read.

It judges nothing: what a contract must say is tested in tests/contract, what REST makes of it is in `openapi`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    EnumValueDescriptor,
    FieldDescriptor,
    FileDescriptor,
    MethodDescriptor,
    OneofDescriptor,
    ServiceDescriptor,
)
from google.protobuf.descriptor_pool import DescriptorPool

__all__ = ["Commented", "Contracts"]

Commented = (
    ServiceDescriptor
    | MethodDescriptor
    | Descriptor
    | FieldDescriptor
    | OneofDescriptor
    | EnumDescriptor
    | EnumValueDescriptor
)


class Contracts:
    """A compiled descriptor set, in a pool of its own, apart from whatever stubs this process has imported.

    Args:
        compiled: all files with all their imports, imports first; with source info, or there are no comments.
        own: names of the files that are ours, for example `tiation/engine/v1/model.proto`.
    """

    def __init__(self, compiled: descriptor_pb2.FileDescriptorSet, own: Iterable[str]) -> None:
        self.pool = DescriptorPool()
        self._comments: dict[str, str] = {}
        for file in compiled.file:
            self.pool.AddSerializedFile(file.SerializeToString())
            self._comments.update(_comments(file))
        self.files: list[FileDescriptor] = [self.pool.FindFileByName(name) for name in sorted(own)]

    def services(self) -> list[ServiceDescriptor]:
        """Our services, by full name."""
        services = [service for file in self.files for service in file.services_by_name.values()]
        return sorted(services, key=lambda service: str(service.full_name))

    def methods(self) -> list[MethodDescriptor]:
        """Our methods, by service and then as they stand in the file."""
        return [method for service in self.services() for method in service.methods]

    def messages(self) -> list[Descriptor]:
        """Our messages with the nested ones, less the entries that protoc makes for maps."""
        return [
            message
            for file in self.files
            for top in file.message_types_by_name.values()
            for message in _with_nested(top)
        ]

    def enums(self) -> list[EnumDescriptor]:
        """Our enums with the nested ones."""
        top = [enum for file in self.files for enum in file.enum_types_by_name.values()]
        return top + [enum for message in self.messages() for enum in message.enum_types]

    def comment(self, descriptor: Commented) -> str:
        """What stands above `descriptor` in its file, without the slashes; empty where nothing does."""
        return self._comments.get(_key(descriptor), "")

    def option(self, descriptor: Commented, name: str) -> Any | None:  # noqa: ANN401 - as dynamic as the option
        """The value of the custom option `name`, for example `google.api.http`; None where it is not set.

        A repeated option is None too while it is empty.

        Raises:
            KeyError: no file declares such an option.
        """
        extension: Any = self.pool.FindExtensionByName(name)
        # GetOptions answers with the default pool's class, which does not know this pool's extensions.
        plain = descriptor.GetOptions()
        kind = self.pool.FindMessageTypeByName(plain.DESCRIPTOR.full_name)
        options = message_factory.GetMessageClass(kind).FromString(plain.SerializeToString())
        if extension.is_repeated:
            return list(options.Extensions[extension]) or None
        return options.Extensions[extension] if options.HasExtension(extension) else None


def _with_nested(message: Descriptor) -> Iterator[Descriptor]:
    yield message
    for nested in message.nested_types:
        if not nested.GetOptions().map_entry:
            yield from _with_nested(nested)


def _key(descriptor: Commented) -> str:
    # An enum's values live in the scope around the enum; the enum's own name keeps them apart from fields.
    if isinstance(descriptor, EnumValueDescriptor):
        return f"{descriptor.type.full_name}.{descriptor.name}"
    if isinstance(descriptor, OneofDescriptor):
        return f"{descriptor.containing_type.full_name}.{descriptor.name}"
    if isinstance(descriptor, MethodDescriptor):
        return f"{descriptor.containing_service.full_name}.{descriptor.name}"
    return str(descriptor.full_name)


def _comments(file: descriptor_pb2.FileDescriptorProto) -> dict[str, str]:
    """Comments by full name, found by the paths that descriptor.proto numbers its fields with."""
    by_path = {
        tuple(location.path): "\n".join(line.strip() for line in location.leading_comments.strip().split("\n"))
        for location in file.source_code_info.location
        if location.leading_comments.strip()
    }
    return {name: by_path[path] for path, name in _paths(file) if path in by_path}


def _paths(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    for index, message in enumerate(file.message_type):
        yield from _message_paths(message, (4, index), file.package)
    for index, enum in enumerate(file.enum_type):
        yield from _enum_paths(enum, (5, index), file.package)
    for index, service in enumerate(file.service):
        yield (6, index), f"{file.package}.{service.name}"
        for number, method in enumerate(service.method):
            yield (6, index, 2, number), f"{file.package}.{service.name}.{method.name}"
    for index, extension in enumerate(file.extension):
        yield (7, index), f"{file.package}.{extension.name}"


def _message_paths(
    message: descriptor_pb2.DescriptorProto, path: tuple[int, ...], scope: str
) -> Iterator[tuple[tuple[int, ...], str]]:
    name = f"{scope}.{message.name}"
    yield path, name
    for index, field in enumerate(message.field):
        yield (*path, 2, index), f"{name}.{field.name}"
    for index, oneof in enumerate(message.oneof_decl):
        yield (*path, 8, index), f"{name}.{oneof.name}"
    for index, nested in enumerate(message.nested_type):
        yield from _message_paths(nested, (*path, 3, index), name)
    for index, enum in enumerate(message.enum_type):
        yield from _enum_paths(enum, (*path, 4, index), name)


def _enum_paths(
    enum: descriptor_pb2.EnumDescriptorProto, path: tuple[int, ...], scope: str
) -> Iterator[tuple[tuple[int, ...], str]]:
    yield path, f"{scope}.{enum.name}"
    for index, value in enumerate(enum.value):
        yield (*path, 2, index), f"{scope}.{enum.name}.{value.name}"
