import subprocess
import psycopg
import psycopg2

for turn in range(2):
    for driver in psycopg, psycopg2:
        with driver.connect("") as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT current_user")
            print("signed in as", cursor.fetchone()[0])
    if turn == 0:
        subprocess.run(["pause"], check=True)
