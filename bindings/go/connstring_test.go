package pgaad

import (
	"errors"
	"strings"
	"testing"
)

func TestWhatDriversDoNotKnowIsLeftOutOrRefused(t *testing.T) {
	for _, row := range []struct{ libpq, drivers string }{
		{"host='localhost' hostaddr='' port='5432'", "host='localhost' port='5432'"},
		{"hostaddr='127.0.0.1' user='u'", "host='127.0.0.1' user='u'"},
		{"host='' hostaddr='127.0.0.1'", "host='127.0.0.1'"},
		{"host='127.0.0.1' hostaddr='127.0.0.1'", "host='127.0.0.1'"},
		{"host='a,,c' hostaddr=',10.0.0.2,'", "host='a,10.0.0.2,c'"},
		{"host='a,b' hostaddr=','", "host='a,b'"},
		{"user='u' dbname='d'", "user='u' dbname='d'"},
		{"gssencmode='disable' channel_binding='prefer' sslmode='verify-full'", "sslmode='verify-full'"},
		{"requirepeer='' sslcrl='' sslcrldir='' dbname='d'", "dbname='d'"},
		{"sslmode='require' sslrootcert='/ca.pem'", "sslmode='verify-ca' sslrootcert='/ca.pem'"},
		{"sslmode='require'", "sslmode='require'"},
		{`password='it\'s a \\ secret' search_path='a b'`, `password='it\'s a \\ secret' search_path='a b'`},
		{`password='=\' x=\'' user='u'`, `password='=\' x=\'' user='u'`},
		{"options=''", "options=''"},
		{"", ""},
	} {
		if got, err := forDrivers(parse(row.libpq)); err != nil || got.String() != row.drivers {
			t.Errorf("%s: %s, %v", row.libpq, got, err)
		}
	}
	for libpq, keyword := range map[string]string{
		"host='localhost' hostaddr='127.0.0.1'":    "hostaddr",
		"host='a,b' hostaddr='a,10.0.0.2'":         "hostaddr",
		"host='a' hostaddr='a,10.0.0.2'":           "hostaddr",
		"requirepeer='postgres' password='hidden'": "requirepeer",
		"sslcrl='/crl.pem'":                        "sslcrl",
		"sslcrldir='/crl'":                         "sslcrldir",
		"gssencmode='require'":                     "gssencmode=require",
		"channel_binding='require'":                "channel_binding=require",
	} {
		got, err := forDrivers(parse(libpq))
		if got != nil || !errors.Is(err, ErrConfig) || !strings.HasPrefix(err.Error(), "pgaad: "+keyword+" is set") {
			t.Errorf("%s: %v, %v", libpq, got, err)
		}
	}
}

func TestQuote(t *testing.T) {
	for value, quoted := range map[string]string{"": "''", "a b": "'a b'", `\'`: `'\\\''`} {
		if got := Quote(value); got != quoted || parse("x="+got).value("x") != value {
			t.Errorf("%s: %s", value, got)
		}
	}
}
