! The two kinds of Fortran readers that exist for ænet's ASCII potentials. Prints the weights, the
! averages, the scaling and the last row as each of them sees these.
program readers
  implicit none
  character(len=256) :: path, mode, text
  character(len=2) :: symbol
  integer :: L, i, n, nweights, nspecies, nfeatures, nparam
  integer, allocatable :: iv(:)
  double precision, allocatable :: weights(:), average(:), fv(:)
  double precision :: scaling, shift, x(3)
  logical :: fixed, flag
  call get_command_argument(1, path)
  call get_command_argument(2, mode)
  fixed = trim(mode) == 'fixed'
  open(20, file=trim(path), status='old', action='read')
  L = int1(); i = int1(); nweights = int1(); i = int1()
  call ints(L); call ints(L - 1); call ints(L); call ints(L)
  allocate (weights(nweights), fv(nweights))
  call floats(nweights); weights = fv
  call line(); call line()
  nspecies = int1()
  do i = 1, nspecies; call line(); end do
  x(1) = float1(); x(2) = float1()
  call line()
  nfeatures = int1(); nparam = int1()
  call ints(nfeatures); call floats(nparam*nfeatures)
  if (fixed) then; call ints(nspecies*nfeatures); else; call ints(2*nfeatures); end if
  if (any(iv /= 0)) stop 3
  i = int1()
  call floats(nfeatures); call floats(nfeatures); call floats(nfeatures)
  allocate (average(nfeatures)); average = fv
  call floats(nfeatures)
  call line()
  if (fixed) then; read (20, '(L1)') flag; else; read (20, *) flag; end if
  if (.not. flag) stop 4
  scaling = float1(); shift = float1()
  n = int1()
  if (n /= nspecies) stop 5
  do i = 1, nspecies; read (20, *) symbol; end do
  call floats(nspecies)
  i = int1(); i = int1()
  read (20, *) x
  print '(*(ES25.16E3))', weights, average, scaling, shift, fv, x
contains
  integer function int1()
    if (fixed) then; read (20, '(I17)') int1; else; read (20, *) int1; end if
  end function
  double precision function float1()
    if (fixed) then; read (20, '(ES24.17)') float1; else; read (20, *) float1; end if
  end function
  subroutine line()
    if (fixed) then; read (20, '(A)') text; else; read (20, *) text; end if
  end subroutine
  subroutine ints(m)
    integer, intent(in) :: m
    if (allocated(iv)) deallocate (iv)
    allocate (iv(m))
    if (fixed) then; read (20, '(4(1X,I17))') iv; else; read (20, *) iv; end if
  end subroutine
  subroutine floats(m)
    integer, intent(in) :: m
    if (allocated(fv)) deallocate (fv)
    allocate (fv(m))
    if (fixed) then; read (20, '(4(1X,ES24.17))') fv; else; read (20, *) fv; end if
  end subroutine
end program
