package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"

	"drydock/spec"
)

// givenDigests fills in the digests that the command line names or that its
// files have.
func givenDigests(ctx context.Context, f bumpFlags, want *spec.Change) error {
	for _, d := range f.digests {
		if err := addDigest(want, d, func(v string) (string, error) { return v, nil }); err != nil {
			return err
		}
	}
	for _, a := range f.artifacts {
		if err := addDigest(want, a, func(v string) (string, error) { return hashFile(ctx, v) }); err != nil {
			return err
		}
	}
	return nil
}

// addDigest takes "value" or "os/arch=value".
func addDigest(want *spec.Change, arg string, resolve func(string) (string, error)) error {
	platform, value, ok := strings.Cut(arg, "=")
	if !ok {
		platform, value = "", arg
	}
	d, err := resolve(value)
	if err != nil {
		return err
	}
	if platform == "" {
		if want.Digest != "" || len(want.Digests) > 0 {
			return fmt.Errorf("a release has one digest, or one for each <os>/<arch>=: name it once")
		}
		want.Digest = d
		return nil
	}
	if want.Digest != "" || want.Digests[platform] != "" {
		return fmt.Errorf("a release has one digest, or one for each <os>/<arch>=: name it once")
	}
	if want.Digests == nil {
		want.Digests = map[string]string{}
	}
	want.Digests[platform] = d
	return nil
}

func hashFile(ctx context.Context, name string) (string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return "", fmt.Errorf("the artifact could not be read: %w", err)
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("the artifact %s is no regular file: name the file that hosts will download", name)
	}
	if info.Size() == 0 {
		return "", fmt.Errorf("the artifact %s is empty: the build that wrote it has failed", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("the artifact could not be read: %w", err)
	}
	defer f.Close()
	return hashReader(ctx, f)
}

func hashReader(ctx context.Context, r io.Reader) (string, error) {
	h := sha256.New()
	buf := make([]byte, 256<<10)
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := r.Read(buf)
		h.Write(buf[:n])
		if err == io.EOF {
			return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
}
