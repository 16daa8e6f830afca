package pgaad

import (
	"fmt"
	"time"
)

// A Token signs in as an identity, as the password of a connection, until it expires. Whoever has its secret is the
// identity, so printing a Token, or what holds one, does not show it.
type Token struct {
	secret    *string // printed as an address, also where methods of ours are not called
	expiresOn time.Time
}

// NewToken is for token functions: see [NewCallback]. The zero time stands for the token's own claim "exp".
func NewToken(secret string, expiresOn time.Time) Token {
	return Token{&secret, expiresOn}
}

// Secret is the token itself.
func (t Token) Secret() string {
	if t.secret == nil {
		return ""
	}
	return *t.secret
}

// ExpiresOn is until when the token is good.
func (t Token) ExpiresOn() time.Time {
	return t.expiresOn
}

// String says until when the token is good, and not what it is.
func (t Token) String() string {
	return fmt.Sprintf("pgaad.Token(until %s)", t.expiresOn.UTC().Format(time.RFC3339))
}

// GoString is String.
func (t Token) GoString() string {
	return t.String()
}
