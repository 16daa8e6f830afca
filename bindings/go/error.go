package pgaad

/*
#include <pgaad.h>
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
)

// A Status is how a call failed. It is an error, to be compared with: errors.Is(err, pgaad.ErrDenied).
type Status int32

// Why there is no token, or no connection string.
const (
	// A string with a NUL character, or settings that are not UTF-8; a closed client.
	ErrInvalidArgument Status = C.PGAAD_INVALID_ARGUMENT
	// A setting is missing, malformed or contradicts another one; or the library is too old.
	ErrConfig Status = C.PGAAD_CONFIG
	// A token was asked for, but auth=off.
	ErrDisabled Status = C.PGAAD_DISABLED
	// No credential source is here.
	ErrUnavailable Status = C.PGAAD_UNAVAILABLE
	// Entra answered, and said no: retrying will not help.
	ErrDenied Status = C.PGAAD_DENIED
	// Told to come back later; the message says when.
	ErrThrottled Status = C.PGAAD_THROTTLED
	// No connection to the token service, or its 5xx, all tries used.
	ErrNetwork Status = C.PGAAD_NETWORK
	// The deadline passed: of the setting timeout_ms, or of the context, whose error is then wrapped.
	ErrTimeout Status = C.PGAAD_TIMEOUT
	// An answer that is no token answer.
	ErrProtocol Status = C.PGAAD_PROTOCOL
	// The token would have gone out without TLS or to a stranger: refused.
	ErrInsecure Status = C.PGAAD_INSECURE
	// Of libpq, which nothing here needs.
	ErrLibpq Status = C.PGAAD_LIBPQ
	// A bug in pgaad.
	ErrInternal Status = C.PGAAD_INTERNAL
)

// Error is the status's name, such as "PGAAD_DENIED".
func (s Status) Error() string {
	return C.GoString(C.pgaad_status_name(C.pgaad_status(s)))
}

// An Error is why a call failed.
type Error struct {
	Status Status
	// One line that begins with "pgaad: ", says what to do, and never holds a secret.
	Message string

	cause error
}

// Error is the message.
func (e *Error) Error() string {
	return e.Message
}

// Is tells whether target is this error's status.
func (e *Error) Is(target error) bool {
	return target == e.Status
}

// Unwrap is the error of a context that ended, or os.ErrClosed; mostly nil.
func (e *Error) Unwrap() error {
	return e.cause
}

// failure is nil for success. It takes the message.
func failure(status C.pgaad_status, message *C.char) error {
	if status == C.PGAAD_OK {
		return nil
	}
	err := &Error{Status: Status(status), Message: "pgaad: out of memory"}
	if message != nil {
		err.Message = taken(message)
	}
	return err
}

// interrupted is the error of a context that ended first.
func interrupted(err error) error {
	wrapped := fmt.Errorf("pgaad: gave up waiting: %w", err)
	if errors.Is(err, context.DeadlineExceeded) {
		return &Error{Status: ErrTimeout, Message: wrapped.Error(), cause: err}
	}
	return wrapped
}
