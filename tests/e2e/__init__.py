"""Small applications, and what runs them in processes of their own under the real wrapper."""
