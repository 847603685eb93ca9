package otp

import (
	"net/url"
	"strconv"
	"strings"
)

// URI returns the otpauth URI of a token, which authenticator apps read from a QR code:
//
//	otpauth://totp/ISSUER:ACCOUNT?secret=BASE32&issuer=ISSUER&algorithm=SHA1&digits=6&period=30
//	otpauth://hotp/ISSUER:ACCOUNT?secret=BASE32&issuer=ISSUER&algorithm=SHA1&digits=6&counter=0
//
// An HOTP token begins at counter 0. The issuer stands both before the account and as a parameter,
// because apps differ in which they read; an empty one is left out. Colons are dropped from both names,
// since apps split the label at the first one and some refuse a second. Spaces are %20, never "+". The
// result holds the secret: it may be shown to its owner and must not be logged or become the address of
// a page or picture.
func URI(issuer, account string, s Secret, p Params) string {
	issuer, account = labelPart(issuer), labelPart(account)
	var b strings.Builder
	prefix, moving := uriPrefix, "&period="+strconv.Itoa(p.Period)
	if p.Kind == HOTP {
		prefix, moving = "otpauth://hotp/", "&counter=0"
	}
	b.WriteString(prefix)
	if issuer != "" {
		b.WriteString(escape(issuer) + ":")
	}
	b.WriteString(escape(account))
	b.WriteString("?secret=" + s.Base32())
	if issuer != "" {
		b.WriteString("&issuer=" + escape(issuer))
	}
	b.WriteString("&algorithm=" + escape(string(p.Algorithm)))
	b.WriteString("&digits=" + strconv.Itoa(p.Digits))
	b.WriteString(moving)
	return b.String()
}

const uriPrefix = "otpauth://totp/"

// labelPart returns a name as it may stand in the label of an otpauth URI.
func labelPart(name string) string {
	return strings.TrimSpace(strings.ReplaceAll(name, ":", ""))
}

// escape percent-encodes everything but unreserved characters (RFC 3986, section 2.3) and "@".
func escape(s string) string {
	return strings.NewReplacer("+", "%20", "%40", "@").Replace(url.QueryEscape(s))
}

// withoutDefaults shortens an otpauth URI by the parameters that only repeat what apps assume. Any
// other text is returned as it is.
func withoutDefaults(text string) string {
	head, query, ok := strings.Cut(text, "?")
	if !ok || !strings.HasPrefix(text, uriPrefix) {
		return text
	}
	var kept []string
	for _, param := range strings.Split(query, "&") {
		switch param {
		case "algorithm=SHA1", "digits=6", "period=30":
		default:
			kept = append(kept, param)
		}
	}
	return head + "?" + strings.Join(kept, "&")
}
