"""What goes on after files were imported: followed until stored, uploads taken, alarms, gaps filled again."""
