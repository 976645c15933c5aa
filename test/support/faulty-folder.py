"""Shows a folder at another place, with the faults that a control file names; see faulty-folder.ts."""

import errno
import os
import sys
import time

from fusepy import FUSE, FuseOSError, Operations

source, mount_point, control = sys.argv[1:]


class FaultyFolder(Operations):
    def __call__(self, operation, *arguments):
        if operation in ("init", "destroy"):
            return None
        if not hasattr(self, operation):
            raise FuseOSError(errno.ENOSYS)
        fault, _, value = read(control).partition(" ")
        if fault == "slow":
            time.sleep(float(value) / 1000)
        while fault == "hang" and read(control) == "hang":
            time.sleep(0.02)
        if fault == "fail":
            raise FuseOSError(getattr(errno, value))
        result = getattr(self, operation)(*arguments)
        if operation == "read" and fault == "lie" and result:
            middle = len(result) // 2
            return result[:middle] + bytes([result[middle] ^ 1]) + result[middle + 1 :]
        return result

    def getattr(self, path, descriptor=None):
        found = os.lstat(source + path)
        return {name: getattr(found, name) for name in dir(found) if name.startswith("st_")}

    def readdir(self, path, descriptor):
        return [".", "..", *os.listdir(source + path)]

    def open(self, path, flags):
        return os.open(source + path, flags)

    def create(self, path, mode, info=None):
        return os.open(source + path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)

    def read(self, path, size, offset, descriptor):
        return os.pread(descriptor, size, offset)

    def write(self, path, data, offset, descriptor):
        return os.pwrite(descriptor, data, offset)

    def release(self, path, descriptor):
        os.close(descriptor)

    def truncate(self, path, length, descriptor=None):
        os.truncate(source + path, length)

    def utimens(self, path, times=None):
        os.utime(source + path, times)

    def unlink(self, path):
        os.unlink(source + path)

    def rename(self, old, new):
        os.rename(source + old, source + new)

    def mkdir(self, path, mode):
        os.mkdir(source + path, mode)

    def rmdir(self, path):
        os.rmdir(source + path)

    def chmod(self, path, mode):
        os.chmod(source + path, mode)


def read(path):
    with open(path) as file:
        return file.read()


# Nothing is kept by the kernel, so that every fault is seen at once.
options = {"direct_io": True, "attr_timeout": 0, "entry_timeout": 0, "negative_timeout": 0}
FUSE(FaultyFolder(), mount_point, foreground=True, **options)
