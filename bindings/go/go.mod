module pgaad

go 1.18
