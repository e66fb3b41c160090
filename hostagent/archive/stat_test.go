package archive

import (
	"io/fs"
	"syscall"
)

func uidOf(info fs.FileInfo) uint32 { return info.Sys().(*syscall.Stat_t).Uid }
