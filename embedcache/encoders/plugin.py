"""`FILE.py:FACTORY`: an encoder from a Python file of one's own.

The file stands for itself: the sha256 of its bytes is the contract's `code`, so whatever it
imports beside installed packages would escape the contract, and its folder is not searched. An
encoder carries the file's text to worker processes, which need not see the file.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from embedcache.encoders.spec import ArithmeticSpec, EncoderSpec
from embedcache.errors import PathMissingError, PluginUnusableError


@dataclass(frozen=True, kw_only=True, slots=True)
class PluginFile:
    """A Python file and which name in it makes the encoder.

    Attributes:
        name: `FILE.py:FACTORY`, without folder.
        source: the file's bytes.
    """

    name: str
    source: bytes

    @property
    def code(self) -> str:
        """The contract's word for this code."""
        return f"sha256:{hashlib.sha256(self.source).hexdigest()}"

    def specify(self) -> EncoderSpec | ArithmeticSpec:
        """Run the file, once a process, and take what its factory makes.

        Raises:
            PluginUnusableError: if it fails, or makes no specification.
        """
        factory = self.name.rpartition(":")[2]
        found = vars(self._module()).get(factory)
        if found is None:
            raise PluginUnusableError(self.name, f"the file defines no {factory}")
        if callable(found):
            found = self._guarded(found)
        if not isinstance(found, EncoderSpec | ArithmeticSpec):
            problem = f"{factory} is a {type(found).__name__}, no EncoderSpec or ArithmeticSpec"
            raise PluginUnusableError(self.name, problem)
        return replace(found, name=self.name, code=self.code)

    def _module(self) -> ModuleType:
        # Under this name pickles and dataclasses of the file's own find it.
        name = f"embedcache_plugin_{self.code.removeprefix('sha256:')[:16]}"
        if name not in sys.modules:
            module = sys.modules[name] = ModuleType(name)
            try:
                self._guarded(lambda: _run(self, module))
            except PluginUnusableError:
                del sys.modules[name]
                raise
        return sys.modules[name]

    def _guarded(self, call: object) -> object:
        assert callable(call)
        try:
            return call()
        except Exception as error:  # whatever a stranger's code raises
            problem = f"it fails with {type(error).__name__}: {error}"
            raise PluginUnusableError(self.name, problem) from error


def read_plugin(file: Path, name: str) -> PluginFile:
    """Read the file that a reference names.

    Raises:
        PathMissingError: if there is no such file.
    """
    if not file.is_file():
        raise PathMissingError("the encoder's file", file)
    return PluginFile(name=name, source=file.read_bytes())


def _run(plugin: PluginFile, module: ModuleType) -> None:
    file = plugin.name.rpartition(":")[0]
    exec(compile(plugin.source, file, "exec"), vars(module))  # noqa: S102  # what the user asked for
