#!/usr/bin/perl
# Runs each line of SQL that it reads on a new connection of DBD::Pg's, signed in with Microsoft Entra ID.
#
#     echo 'select current_user' | perl connect.pl "host=myserver.postgres.database.azure.com user=app-one"
use strict;
use warnings;

use DBI;
use FindBin;
use lib $FindBin::Bin;
use PgAad;

my $entra = PgAad->new;
my $conninfo = shift @ARGV;

while (my $sql = <STDIN>) {
    eval {
        my $dbh = DBI->connect($entra->dbi($conninfo), { RaiseError => 1, PrintError => 0 });
        print join("\t", @$_), "\n" for @{ $dbh->selectall_arrayref($sql) };
        $dbh->disconnect;
        1;
    } or warn $@;
}
