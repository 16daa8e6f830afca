package pgaad

/*
#include <stdint.h>
#include <pgaad.h>
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"runtime/cgo"
	"strings"
	"time"
)

//export pgaadGoFetch
func pgaadGoFetch(userdata C.uintptr_t, scope *C.char, timeoutMs C.int, answer *C.pgaad_answer) {
	source := cgo.Handle(userdata).Value().(*supplier)
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(timeoutMs)*time.Millisecond)
	defer cancel()
	ctx = context.WithValue(ctx, fetching{}, source)
	token, err := source.ask(ctx, C.GoString(scope))
	if err != nil {
		answerError(answer, err)
		return
	}
	text, err := terminated("the token", token.Secret())
	if err != nil {
		answerError(answer, ErrProtocol)
		return
	}
	var expiresOn int64
	if !token.ExpiresOn().IsZero() {
		expiresOn = token.ExpiresOn().Unix()
	}
	C.pgaad_answer_token(answer, pointer(text), C.int64_t(expiresOn))
}

//export pgaadGoRelease
func pgaadGoRelease(userdata C.uintptr_t) {
	cgo.Handle(userdata).Delete()
}

// ask calls the function on a goroutine of its own, whose end by panic or Goexit does not unwind the library.
func (s *supplier) ask(ctx context.Context, scope string) (token Token, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = &Error{Status: ErrProtocol, Message: "the token function ended its goroutine"}
		defer func() {
			if reason := recover(); reason != nil {
				err = &Error{Status: ErrProtocol, Message: fmt.Sprintf("the token function panicked: %v", reason)}
			}
		}()
		token, err = s.fetch(ctx, scope)
	}()
	<-done
	return token, err
}

func answerError(answer *C.pgaad_answer, err error) {
	status := ErrUnavailable
	var known *Error
	switch {
	case errors.As(err, &known):
		status = known.Status
	case errors.As(err, &status):
	case errors.Is(err, context.DeadlineExceeded):
		status = ErrTimeout
	}
	text := append([]byte(strings.ReplaceAll(err.Error(), "\x00", "?")), 0)
	C.pgaad_answer_error(answer, C.pgaad_status(status), pointer(text))
}
