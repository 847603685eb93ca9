package tokenfile

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
)

// maxIterations bounds the work that a file can ask for.
const maxIterations = 10_000_000

// encryptionKey is the EncryptionKey of a container (RFC 6030, section 6): a key that both sides have, or
// one derived from a password.
type encryptionKey struct {
	Derived *struct {
		Method struct {
			Algorithm string `xml:"Algorithm,attr"`
			Params    struct {
				Salt       string `xml:"Salt>Specified"`
				Iterations string `xml:"IterationCount"`
				Length     string `xml:"KeyLength"`
				PRF        struct {
					Algorithm string `xml:"Algorithm,attr"`
				} `xml:"PRF"`
			} `xml:"PBKDF2-params"`
		} `xml:"KeyDerivationMethod"`
	} `xml:"DerivedKey"`
}

// macMethod is the MACMethod of a container (RFC 6030, section 6.1.1).
type macMethod struct {
	Algorithm string         `xml:"Algorithm,attr"`
	Key       *encryptedData `xml:"MACKey"`
}

// pskcKeys opens the encrypted values of one container.
type pskcKeys struct {
	options    Options
	encryption encryptionKey
	mac        *macMethod

	ready   bool
	key     []byte
	macKey  []byte
	macHash func() hash.Hash
	err     error
}

// prepare finds the keys, once.
func (k *pskcKeys) prepare() error {
	if !k.ready {
		k.ready = true
		k.err = k.find()
	}
	return k.err
}

func (k *pskcKeys) find() (err error) {
	switch {
	case k.encryption.Derived != nil:
		if k.key, err = k.derive(); err != nil {
			return err
		}
	case len(k.options.Key) > 0:
		k.key = k.options.Key
	default:
		return errors.New("its values are encrypted: give the pre-shared key")
	}
	if k.mac == nil {
		return nil
	}
	switch alg := k.mac.Algorithm; {
	case strings.HasSuffix(alg, "#hmac-sha1"):
		k.macHash = sha1.New
	case strings.HasSuffix(alg, "#hmac-sha256"):
		k.macHash = sha256.New
	case strings.HasSuffix(alg, "#hmac-sha512"):
		k.macHash = sha512.New
	default:
		return fmt.Errorf("its MAC method %q is not known", shorten(alg))
	}
	k.macKey = k.key // where none is given, as the RFC says
	if k.mac.Key != nil {
		if k.macKey, err = decrypt(k.key, *k.mac.Key); err != nil {
			return fmt.Errorf("opening its MAC key: %w", err)
		}
	}
	return nil
}

// derive computes the key from a password (RFC 8018, PBKDF2).
func (k *pskcKeys) derive() ([]byte, error) {
	if len(k.options.Password) == 0 {
		return nil, errors.New("its key is derived from a password: give the password")
	}
	m := k.encryption.Derived.Method
	if !strings.HasSuffix(m.Algorithm, "#pbkdf2") {
		return nil, fmt.Errorf("its key derivation %q is not PBKDF2", shorten(m.Algorithm))
	}
	salt, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(m.Params.Salt), ""))
	iterations, err2 := strconv.Atoi(strings.TrimSpace(m.Params.Iterations))
	length, err3 := strconv.Atoi(strings.TrimSpace(m.Params.Length))
	switch {
	case err != nil || err2 != nil || err3 != nil || len(salt) == 0:
		return nil, errors.New("the parameters of its key derivation cannot be read")
	case iterations < 1 || iterations > maxIterations:
		return nil, fmt.Errorf("its key derivation takes %d iterations; 1 to %d are taken", iterations, maxIterations)
	case length != 16 && length != 24 && length != 32:
		return nil, fmt.Errorf("its key of %d bytes is none of AES", length)
	}
	prf := sha1.New
	switch alg := strings.ToLower(m.Params.PRF.Algorithm); {
	case alg == "" || strings.HasSuffix(alg, "hmac-sha1"):
	case strings.HasSuffix(alg, "hmac-sha256"):
		prf = sha256.New
	case strings.HasSuffix(alg, "hmac-sha512"):
		prf = sha512.New
	default:
		return nil, fmt.Errorf("its key derivation with %q is not known", shorten(alg))
	}
	return pbkdf2.Key(prf, string(k.options.Password), salt, iterations, length)
}

// open gives the bytes of a value. CBC proves nothing by itself, so an encrypted value without the right
// MAC is refused, before its padding is looked at.
func (k *pskcKeys) open(what string, v pskcValue) ([]byte, error) {
	if v.Encrypted == nil {
		if v.Plain == nil {
			return nil, fmt.Errorf("the %s is missing", what)
		}
		b, err := base64Secret(*v.Plain)
		return b, err
	}
	if err := k.prepare(); err != nil {
		return nil, err
	}
	if k.macHash == nil {
		return nil, errors.New("it names no MAC method, so that nobody can tell whether its values were altered")
	}
	sealed, err := v.Encrypted.bytes()
	if err != nil {
		return nil, err
	}
	want, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(v.MAC), ""))
	mac := hmac.New(k.macHash, k.macKey)
	mac.Write(sealed)
	if err != nil || !hmac.Equal(mac.Sum(nil), want) {
		return nil, fmt.Errorf("the ValueMAC of the %s is wrong: another key or password, or the file was altered", what)
	}
	return decrypt(k.key, *v.Encrypted)
}

// number gives a value that is a number: in digits, or encrypted as digits or as big-endian bytes.
func (k *pskcKeys) number(what string, v pskcValue) (int64, error) {
	text := ""
	if v.Encrypted == nil {
		text = strings.TrimSpace(*v.Plain)
	} else {
		b, err := k.open(what, v)
		if err != nil {
			return 0, err
		}
		if len(b) == 8 && strings.Trim(string(b), "0123456789") != "" {
			return int64(binary.BigEndian.Uint64(b)), nil
		}
		text = string(b)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the %s is not a number", what)
	}
	return n, nil
}

func (e encryptedData) bytes() ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(e.Cipher), ""))
	if err != nil {
		return nil, errors.New("an encrypted value is not in base64")
	}
	return b, nil
}

// decrypt opens AES-CBC with the padding of XML Encryption, section 5.2: the last byte says how long it
// is.
func decrypt(key []byte, e encryptedData) ([]byte, error) {
	alg := e.Method.Algorithm
	sizes := map[string]int{"#aes128-cbc": 16, "#aes192-cbc": 24, "#aes256-cbc": 32}
	i := strings.LastIndex(alg, "#")
	if i < 0 || sizes[alg[i:]] == 0 {
		return nil, fmt.Errorf("encryption %q is not AES-CBC", shorten(alg))
	}
	if len(key) != sizes[alg[i:]] {
		return nil, fmt.Errorf("the key has %d bytes where %s needs %d", len(key), alg[i+1:], sizes[alg[i:]])
	}
	b, err := e.bytes()
	if err != nil {
		return nil, err
	}
	if len(b) < 2*aes.BlockSize || len(b)%aes.BlockSize != 0 {
		return nil, errors.New("an encrypted value is cut off")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(b)-aes.BlockSize)
	cipher.NewCBCDecrypter(block, b[:aes.BlockSize]).CryptBlocks(plain, b[aes.BlockSize:])
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > aes.BlockSize {
		return nil, errors.New("an encrypted value cannot be opened: another key or password")
	}
	return plain[:len(plain)-pad], nil
}
