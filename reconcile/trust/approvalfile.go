package trust

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

const (
	signatureBegin = "-----BEGIN SSH SIGNATURE-----\n"
	signatureEnd   = "-----END SSH SIGNATURE-----\n"

	// maxSignature is room for the largest RSA keys.
	maxSignature = 16 << 10

	maxApprovalFile = maxStatement + maxSignature

	// maxApprovals is how many files of one folder are read: more than an
	// approval block may ask for, with room for attestations.
	maxApprovals = 2000
)

// Namespace is what a statement is signed in, so that no signature of a commit,
// of a login or of a file can be taken for an approval.
const Namespace = "drydock"

// An ApprovalFile is a statement and one signature of it. Whether the signature
// is anybody's is not known yet.
type ApprovalFile struct {
	File      string // where it stands; named by its content
	Statement Statement
	Signed    []byte // the statement's own bytes: what the signature is over
	Signature []byte // armoured, as ssh-keygen -Y sign writes it
}

// Folder is where the files of a statement stand: what is known of a release
// before it is installed. A removal has its spec where others have the digest.
func (s Statement) Folder() string {
	release, digest := s.Version, s.Digest
	if s.Kind == Removal {
		release, digest = string(Removal), "spec:"+s.Spec
	}
	// Of several platforms the first one's names the folder; the statement
	// binds them all.
	first, _, _ := strings.Cut(digest, " ")
	if _, hex, ok := strings.Cut(first, ":"); ok {
		release += "-" + hex[:min(12, len(hex))]
	}
	return "approvals/" + s.Environment + "/" + s.Service + "/" + release
}

// WriteApprovalFile puts a signature to its statement, and says where the file
// belongs. The name is the SHA-256 of the file's bytes, so that the same file
// is never added twice, and two people who approve at once never meet. It is
// not what is counted: of some signatures anybody can make another that holds
// too, so people are.
func WriteApprovalFile(s Statement, signature []byte) (path string, data []byte, err error) {
	text, err := s.Text()
	if err != nil {
		return "", nil, err
	}
	if err := checkArmour(signature); err != nil {
		return "", nil, err
	}
	data = append(text, signature...)
	return s.Folder() + "/" + nameOf(data), data, nil
}

func nameOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]) + ".sig"
}

// ReadApprovalFile reads a file below approvals/: the statement's text, and
// right after it the armoured signature. path is the file's own, and must be
// the one that its content has.
//
// No statement has a line that begins with a dash, so a person can take a file
// apart and check it without Drydock:
//
//	sed '/^-----BEGIN/,$d' FILE >statement
//	sed -n '/^-----BEGIN/,$p' FILE >statement.sig
//	ssh-keygen -Y verify -f allowed_signers -I alice@acme.example -n drydock -s statement.sig <statement
//
// and make one:
//
//	ssh-keygen -Y sign -n drydock -f ~/.ssh/id_ed25519 statement
//	cat statement statement.sig >FILE    # its name: sha256sum FILE
func ReadApprovalFile(path string, data []byte) (ApprovalFile, error) {
	f, err := splitApproval(data)
	if err != nil {
		return ApprovalFile{}, fmt.Errorf("%s is no approval: %w", shown(path), err)
	}
	if want := f.Statement.Folder() + "/" + nameOf(data); path != want {
		return ApprovalFile{}, fmt.Errorf("%s holds what belongs to %s; an approval counts only at its own place: move it there", shown(path), want)
	}
	f.File = path
	return f, nil
}

// SignedBy is the file's statement with who signed it: what a host's keys
// answer, which is why it takes their three results.
func (f ApprovalFile) SignedBy(principals []string, key string, err error) SignedStatement {
	s := SignedStatement{Statement: f.Statement, Principals: principals, Key: key, File: f.File}
	if err != nil {
		s.Principals, s.Why = nil, err.Error()
	}
	return s
}

// ReadApprovals reads the files of one folder, in the order of their names.
// None of them is ever an error: what counts for nothing is ignored, and it is
// said why. What nobody could have asked for costs no host its time.
func ReadApprovals(tree fs.FS, folder string) (files []ApprovalFile, ignored []Ignored) {
	ignore := func(file, why string) { ignored = append(ignored, Ignored{File: file, Why: why}) }
	entries, err := fs.ReadDir(tree, folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		ignore(folder, "it could not be read: "+err.Error())
	}
	for i, e := range entries {
		if i == maxApprovals {
			ignore(folder, fmt.Sprintf("it holds %d files, and the first %d by name are read; delete what is none of an approval", len(entries), maxApprovals))
			break
		}
		path := folder + "/" + e.Name()
		data, why := approvalBytes(tree, path, e)
		if why != "" {
			ignore(path, why)
			continue
		}
		f, err := ReadApprovalFile(path, data)
		if err != nil {
			ignore(path, err.Error())
			continue
		}
		files = append(files, f)
	}
	return files, ignored
}

// approvalBytes reads one file, or says why it is none to read.
func approvalBytes(tree fs.FS, path string, e fs.DirEntry) (data []byte, why string) {
	if !e.Type().IsRegular() {
		return nil, "it is no plain file"
	}
	f, err := tree.Open(path)
	if err == nil {
		defer f.Close()
		if info, serr := f.Stat(); serr == nil && info.Size() > maxApprovalFile {
			return nil, fmt.Sprintf("it has %d bytes, and no approval is so long", info.Size())
		}
		data, err = io.ReadAll(io.LimitReader(f, maxApprovalFile+1))
	}
	if err != nil {
		return nil, "it could not be read: " + err.Error()
	}
	return data, ""
}

func splitApproval(data []byte) (f ApprovalFile, err error) {
	if len(data) > maxApprovalFile {
		return f, fmt.Errorf("it has %d bytes, and %d is the limit", len(data), maxApprovalFile)
	}
	at := bytes.Index(data, []byte("\n-----")) + 1
	if at == 0 {
		return f, errors.New("no signature follows its statement; write it with drydock approve or drydock attest")
	}
	f.Signed, f.Signature = data[:at:at], data[at:]
	if f.Statement, err = ParseStatement(f.Signed); err != nil {
		return ApprovalFile{}, err
	}
	return f, checkArmour(f.Signature)
}

// checkArmour holds a signature to the look of one, with nothing around it.
// What is in it is for those who verify.
func checkArmour(armoured []byte) error {
	if len(armoured) > maxSignature {
		return fmt.Errorf("the signature has %d bytes, and %d is the limit", len(armoured), maxSignature)
	}
	body, begins := bytes.CutPrefix(armoured, []byte(signatureBegin))
	body, ends := bytes.CutSuffix(body, []byte("\n"+signatureEnd))
	if !begins || !ends || len(body) == 0 || body[len(body)-1] == '\n' {
		return errors.New("the signature is not as ssh-keygen -Y sign writes it, from its BEGIN line to its END line and the newline after that")
	}
	for i, c := range body {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '+' || c == '/' || c == '='
		if !letter && (c != '\n' || i == 0 || body[i-1] == '\n') {
			return errors.New("the signature holds more than base64; keep one signature a file, as ssh-keygen -Y sign wrote it")
		}
	}
	return nil
}
