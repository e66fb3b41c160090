package openpgp

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// The packets that a keyring or a signature may hold.
const (
	tagSignature = 2
	tagSecret    = 5
	tagPrimary   = 6
	tagSecretSub = 7
	tagTrust     = 12
	tagUser      = 13
	tagSubkey    = 14
	tagAttribute = 17
)

// A framed packet is one cut out of others, header and all. Its length is
// known: nothing in it is read that is not there, and nothing that would unfold.
type framed struct {
	tag  int
	body []byte
	all  []byte
}

// split cuts packets apart, at most so many.
func split(raw []byte, most int) (out []framed, err error) {
	for len(raw) > 0 {
		if len(out) == most {
			return nil, fmt.Errorf("holds more than %d packets", most)
		}
		tag, head, size, err := header(raw)
		if err != nil {
			return nil, err
		}
		if uint64(size) > uint64(len(raw)-head) {
			return nil, errors.New("is cut short")
		}
		n := head + int(size)
		out = append(out, framed{tag, raw[head:n:n], raw[:n:n]})
		raw = raw[n:]
	}
	return out, nil
}

// header reads a packet's type, and the lengths of its header and its body.
// Lengths that come in parts, or run to the end, are for streams, and refused.
func header(raw []byte) (tag, head int, size uint32, err error) {
	first := raw[0]
	if first&0x80 == 0 {
		return 0, 0, 0, errors.New("is no OpenPGP packet")
	}
	var width int // of the length
	if first&0x40 == 0 {
		tag, width = int(first>>2&0x0f), 1<<(first&3)
		if width == 8 {
			return 0, 0, 0, errors.New("has a packet without a length")
		}
		head = 1 + width
	} else {
		tag = int(first & 0x3f)
		if len(raw) < 2 {
			return 0, 0, 0, errors.New("is cut short")
		}
		switch l := raw[1]; {
		case l < 192:
			return tag, 2, uint32(l), nil
		case l < 224:
			if len(raw) < 3 {
				return 0, 0, 0, errors.New("is cut short")
			}
			return tag, 3, uint32(l-192)<<8 + uint32(raw[2]) + 192, nil
		case l < 255:
			return 0, 0, 0, errors.New("has a packet whose length comes in parts")
		}
		head, width = 6, 4
	}
	if len(raw) < head {
		return 0, 0, 0, errors.New("is cut short")
	}
	var four [4]byte
	copy(four[4-width:], raw[head-width:head])
	return tag, head, binary.BigEndian.Uint32(four[:]), nil
}

// parse reads what is in a packet, all of it.
func (f framed) parse() (packet.Packet, error) {
	r := bytes.NewReader(f.all)
	p, err := packet.Read(r)
	if err == nil && r.Len() > 0 {
		err = errors.New("bytes are left over")
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// dearmour reads the first armoured block in text, which must be of a kind, and
// is what follows it. Only header lines stand before the data.
func dearmour(text []byte, kind string) (raw, rest []byte, err error) {
	if bytes.IndexByte(text, '\r') >= 0 {
		return nil, nil, errors.New(`has CR line ends, which tr -d '\r' removes`)
	}
	body, ok := bytes.CutPrefix(text, []byte("-----BEGIN "+kind+"-----\n"))
	if !ok {
		return nil, nil, fmt.Errorf("does not begin with the line %q", "-----BEGIN "+kind+"-----")
	}
	body, rest, ok = bytes.Cut(body, []byte("\n-----END "+kind+"-----"))
	if !ok {
		return nil, nil, fmt.Errorf("does not end with the line %q", "-----END "+kind+"-----")
	}
	if len(rest) > 0 && rest[0] != '\n' {
		return nil, nil, errors.New("has text behind its last line")
	}
	for { // "Version: …" and such, up to an empty line
		line, after, ok := bytes.Cut(body, []byte("\n"))
		if !ok {
			return nil, nil, errors.New("has no empty line before its data")
		}
		body = after
		if len(line) == 0 {
			break
		}
		if !bytes.Contains(line, []byte(": ")) {
			return nil, nil, errors.New("has a header line without a name")
		}
	}
	// The last line is a checksum, which newer programs leave out.
	data, sum, summed := strings.Cut("\n"+string(body), "\n=")
	raw, err = base64.StdEncoding.Strict().DecodeString(data)
	if err != nil {
		return nil, nil, errors.New("is not base64")
	}
	if summed {
		want := crc24(raw)
		if got, err := base64.StdEncoding.Strict().DecodeString(sum); err != nil || !bytes.Equal(got, want[:]) {
			return nil, nil, errors.New("has a checksum that does not fit")
		}
	}
	return raw, rest, nil
}

// crc24 is the armour's checksum (RFC 9580, 6.1): against typing errors only.
func crc24(b []byte) [3]byte {
	crc := uint32(0xb704ce)
	for _, c := range b {
		crc ^= uint32(c) << 16
		for range 8 {
			if crc <<= 1; crc&0x1000000 != 0 {
				crc ^= 0x1864cfb
			}
		}
	}
	return [3]byte{byte(crc >> 16), byte(crc >> 8), byte(crc)}
}
