import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.Statement;

/** Connects twice, as a pool does that replaces a connection. Between the two it runs the program "pause", if there is one. */
class Connect {
    public static void main(String[] arguments) throws Exception {
        connect(arguments[0]);
        new ProcessBuilder("pause").inheritIO().start().waitFor();
        connect(arguments[0]);
    }

    static void connect(String url) throws Exception {
        String query = "SELECT current_user, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        try (Connection connection = DriverManager.getConnection(url);
                Statement statement = connection.createStatement();
                ResultSet result = statement.executeQuery(query)) {
            result.next();
            System.out.println("signed in as " + result.getString(1) + " over " + result.getString(2));
        }
    }
}
