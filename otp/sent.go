package otp

import (
	"crypto/rand"
	"math/big"
)

// NewSentCode returns a random code of so many digits, to be sent to a person: every one is as likely as any
// other.
func NewSentCode(digits int) string {
	code := make([]byte, digits)
	for i := range code {
		n, err := rand.Int(rand.Reader, big.NewInt(10))
		if err != nil {
			panic(err) // the system has no random source, and crypto/rand would have ended the program
		}
		code[i] = '0' + byte(n.Int64())
	}
	return string(code)
}
