package auth

import "sallyport/otp"

// TokenURI returns the otpauth URI of a token of login, under the issuer's name that enrolments have.
func (e *Engine) TokenURI(login string, s otp.Secret, p otp.Params) string {
	return otp.URI(e.cfg.Issuer, login, s, p)
}
