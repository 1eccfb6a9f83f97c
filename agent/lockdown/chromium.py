"""What holds for the citizen's Chromium whatever the policy says: constant managed policies, in the names of Chromium's list."""

from typing import Final

# chromeenterprise.google/policies says what each does. What is not said here is Chromium's default.
HARDENING: Final[dict[str, object]] = {
    # Nothing of a citizen is kept, offered to the next one or sent to an account.
    "SyncDisabled": True,
    "BrowserSignin": 0,
    "PasswordManagerEnabled": False,
    "AutofillAddressEnabled": False,
    "AutofillCreditCardEnabled": False,
    "PaymentMethodQueryEnabled": False,
    "SavingBrowserHistoryDisabled": True,
    "RestoreOnStartup": 5,
    "EditBookmarksEnabled": False,
    # A second profile would be one that the wipe at the end of a session does not know.
    "BrowserGuestModeEnabled": False,
    "BrowserAddPersonEnabled": False,
    "ExtensionInstallBlocklist": ["*"],
    "BlockExternalExtensions": True,
    # A form must show in the viewer, where downloads are denied.
    "AlwaysOpenPdfExternally": False,
    # What is typed goes to no search engine, spelling or translation service.
    "DefaultSearchProviderEnabled": False,
    "SearchSuggestEnabled": False,
    "SpellCheckServiceEnabled": False,
    "TranslateEnabled": False,
    "AlternateErrorPagesEnabled": False,
    # It talks to nobody by itself: the firewall would hold it up, and it costs the shop's line.
    "MetricsReportingEnabled": False,
    "UrlKeyedAnonymizedDataCollectionEnabled": False,
    "DomainReliabilityAllowed": False,
    "BrowserNetworkTimeQueriesEnabled": False,
    "ComponentUpdatesEnabled": False,
    "ChromeVariations": 2,
    "NetworkPredictionOptions": 2,
    "BackgroundModeEnabled": False,
    "UserFeedbackAllowed": False,
    "PromotionsEnabled": False,
    "DefaultBrowserSettingEnabled": False,
    # It would look for screens in the shop's own network.
    "EnableMediaRouter": False,
    # Names are asked of the booth's resolver alone, which fills the firewall's sets; and udp/443 goes nowhere.
    "DnsOverHttpsMode": "off",
    "BuiltInDnsClientEnabled": False,
    "QuicAllowed": False,
    # Nobody clicks a wrong certificate away on a terminal that asks for a bank account.
    "SSLErrorOverrideAllowed": False,
    "TaskManagerEndProcessEnabled": False,
    # A page asks for none of these: the booth's devices belong to the booth.
    "DefaultGeolocationSetting": 2,
    "DefaultNotificationsSetting": 2,
    "DefaultSensorsSetting": 2,
    "DefaultSerialGuardSetting": 2,
    "DefaultWebUsbGuardSetting": 2,
    "DefaultWebHidGuardSetting": 2,
    "DefaultWebBluetoothGuardSetting": 2,
    "DefaultFileSystemReadGuardSetting": 2,
    "DefaultFileSystemWriteGuardSetting": 2,
    "DefaultLocalFontsSetting": 2,
    "DefaultClipboardSetting": 2,
    "DefaultIdleDetectionSetting": 2,
    "DefaultWindowManagementSetting": 2,
    "ScreenCaptureAllowed": False,
}
