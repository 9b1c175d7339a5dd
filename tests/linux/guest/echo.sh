# Reads a line from the console and prints it back.
echo "PURLIN-READY echo"
read -r line
echo "PURLIN-ECHO $line"
