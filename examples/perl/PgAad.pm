package PgAad;

use strict;
use warnings;

use FFI::Platypus 2.00;
use FFI::Platypus::DL qw(dlopen dlerror RTLD_PLATYPUS_DEFAULT);

our $VERSION = '0.1.0';
my @NEEDED = (0, 1, 0);    # the first version that has all that is used here

my $ffi = do {
    my $name = $ENV{PGAAD_LIBRARY} || 'libpgaad.so.0';
    my $failed = sub { die "pgaad: @_. Install pgaad, or set PGAAD_LIBRARY to the path of libpgaad.so.0.\n" };
    dlopen($name, RTLD_PLATYPUS_DEFAULT) or $failed->("cannot load $name (" . dlerror() . ')');
    my $library = FFI::Platypus->new(api => 2, lib => $name);
    my $number = $library->find_symbol('pgaad_version_number') or $failed->("$name is another library");
    if ($library->function($number => [] => 'int')->call < $NEEDED[0] * 10000 + $NEEDED[1] * 100 + $NEEDED[2]) {
        my $version = $library->function(pgaad_version => [] => 'string')->call;
        $failed->("$name is version $version, and " . join('.', @NEEDED) . ' is needed');
    }
    $library;
};
my $create = $ffi->function(pgaad_client_new => [qw(string opaque* opaque*)] => 'int');
my $release = $ffi->function(pgaad_client_free => ['opaque'] => 'void');
my $token = $ffi->function(pgaad_client_get_token => [qw(opaque int opaque* opaque opaque*)] => 'int');
my $user = $ffi->function(pgaad_client_get_user => [qw(opaque opaque* opaque*)] => 'int');
my $connstring = $ffi->function(pgaad_client_connstring => [qw(opaque string opaque* opaque*)] => 'int');
my $status_name = $ffi->function(pgaad_status_name => ['int'] => 'string');
my $free = $ffi->function(pgaad_free => ['opaque'] => 'void');

sub new {
    my ($class, $settings) = @_;
    my ($client, $errmsg);
    _check($create->call($settings // '', \$client, \$errmsg), $errmsg);
    return bless \$client, $class;
}

sub DESTROY { $release->call(${ $_[0] }) }

# Two threads of Perl's would free one client.
sub CLONE_SKIP { 1 }

sub token {
    my ($self, $timeout) = @_;
    my ($value, $errmsg);
    _check($token->call($$self, $timeout // -1, \$value, undef, \$errmsg), $errmsg);
    return _take($value);
}

sub user {
    my ($self) = @_;
    my ($name, $errmsg);
    _check($user->call($$self, \$name, \$errmsg), $errmsg);
    return _take($name);
}

sub connstring {
    my ($self, $conninfo) = @_;
    my ($string, $errmsg);
    _check($connstring->call($$self, $conninfo // '', \$string, \$errmsg), $errmsg);
    return _take($string);
}

sub dbi {
    my ($self, $conninfo) = @_;
    my %given = ($self->connstring($conninfo) =~ /(\w+)=('(?:[^'\\]|\\.)*')/gs);
    my ($name, $password) = map { my $text = $_ // "''"; $text =~ s/^'|'$//g; $text =~ s/\\(.)/$1/gs; $text }
        delete @given{qw(user password)};
    return ('dbi:Pg:' . join(' ', map { "$_=$given{$_}" } sort keys %given), $name, $password);
}

sub _check {
    my ($status, $errmsg) = @_;
    return if $status == 0;
    die PgAad::Error->_new($status, $status_name->call($status), _take($errmsg) // 'pgaad: no memory');
}

# Copies a string of pgaad's, and gives it back.
sub _take {
    my ($pointer) = @_;
    my $copy = $ffi->cast(opaque => 'string', $pointer);
    $free->call($pointer);
    return $copy;
}

package PgAad::Error;

use overload '""' => sub { $_[0]->message . "\n" }, fallback => 1;

sub _new {
    my ($class, $code, $status, $message) = @_;
    return bless { code => $code, status => $status, message => $message }, $class;
}
sub code { $_[0]{code} }
sub status { $_[0]{status} }
sub message { $_[0]{message} }

1;

__END__

=head1 NAME

PgAad - signs DBD::Pg in to Azure Database for PostgreSQL with Microsoft Entra ID, by libpgaad

=head1 SYNOPSIS

    my $entra = PgAad->new;
    my $dbh = DBI->connect($entra->dbi('host=myserver.postgres.database.azure.com user=app-one'));

Needs FFI::Platypus, and libpgaad.so.0, which PGAAD_LIBRARY may name by its path. C<use> dies without it, or with one
that is too old.

=head1 METHODS

What goes wrong dies with a PgAad::Error, which reads as its message and has C<status> (such as C<PGAAD_DENIED>),
C<code> (its number) and C<message>. Strings are bytes in UTF-8.

=over

=item PgAad->new($settings)

One identity with its settings and its tokens. The settings are "key=value ..."; what they leave out comes from the
environment.

=item $entra->token($timeout)

A token, for up to so many milliseconds (negative: the setting timeout_ms).

=item $entra->user

The database user that the identity is, as its token says.

=item $entra->connstring($conninfo)

A connection string for libpq, with a token where Entra is on for this server: a secret. The argument is "key=value ..."
or a URI; the PG* variables stand in for what it leaves out.

=item $entra->dbi($conninfo)

The same as DBI's data source, user and password; DBI shows the first two when it can't connect.

=back

=cut
