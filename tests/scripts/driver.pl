# Commands for tests/suite/scripts.rs, one a line, words separated by tabs; the answer ends with a line of a dot.
use strict;
use warnings;

use Data::Dumper;
use DBI;
use FindBin;
use lib "$FindBin::Bin/../../examples/perl";

$| = 1;

sub say_ {
    my $line = "$_[0] status=$_[1] $_[2]";
    $line =~ s/\s+/ /g;
    print "$line\n";
}

unless (eval { require PgAad; 1 }) {
    my $why = $@;
    $why =~ s/\nCompilation failed.*//s;
    say_('load', 'died', "errmsg=$why");
    exit;
}

my ($client, $failure);
my %attributes = (RaiseError => 1, PrintError => 0);

my %commands = (
    new => sub { $client = PgAad->new($_[0]); 'made' },
    token => sub { $client->token(@_) },
    user => sub { $client->user },
    connstring => sub { $client->connstring($_[0]) },

    # All that a program might log.
    inspect => sub {
        my ($conninfo) = @_;
        eval { DBI->connect($client->dbi($conninfo), \%attributes) };
        my $refused = $@;
        return join ' ', $client, $failure // '', $refused, Dumper($client, $failure, $refused);
    },
    connect => sub {
        my $dbh = DBI->connect($client->dbi($_[0]), \%attributes);
        my ($who) = $dbh->selectrow_array('select current_user');
        $dbh->disconnect;
        return $who;
    },
);

while (my $line = <STDIN>) {
    chomp $line;
    my ($command, @words) = split /\t/, $line, -1;
    my $value = eval { $commands{$command}->(@words) };
    if (!$@) {
        say_($command, 'PGAAD_OK', "value=$value");
    } elsif (ref $@ && $@->isa('PgAad::Error')) {
        $failure = $@;
        say_($command, $failure->status, 'class=' . ref($failure) . ' errmsg=' . $failure->message);
    } else {
        say_($command, 'died', "errmsg=$@");
    }
    print ".\n";
}
