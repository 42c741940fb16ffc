// Each file of the command line through Mustang's validator, its reports after a line with the file; for Rhino.
for (var index = 0; index < arguments.length; index++) {
  var validator = new Packages.org.mustangproject.validator.ZUGFeRDValidator();
  validator.disableNotices(); // of XRechnung, a profile that ours is not
  print("=== " + arguments[index]);
  print(validator.validate(arguments[index]));
}
