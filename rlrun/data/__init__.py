"""What is read from files: logged steps (`data=`), and tables in time order."""
